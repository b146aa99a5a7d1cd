"""The method `ecq`: entropy-coded quantization.

Product quantization spends the same number of bits on every subspace and every word. Here each coefficient is rounded
to a multiple of one step size, and an entropy coder gives short codes to likely values. This text describes how a row
is encoded and decoded. docs/format.md describes the bytes, and the modules named in brackets have the details.

*The model of a row* [trial, decoder]. Rows are in order of frequency. Row i is in rank bucket b (the first 255 rows,
then one bucket per octave). Its centroid k is the one nearest to the row after the mean of its bucket is subtracted:

    x[i] = mean[b] + centroid[k] + sum over j of w[b] * v[i, j] * axis[j]

The axes are the principal axes of the residuals (the Karhunen-Loève transform), so the coefficients are nearly
uncorrelated. v[i, j] is a quantized coefficient, and w[b] is the relative step size of the bucket: above 1, its rows
get fewer bits (the parameter `weights`; 1 by default). All numbers are integers until the sum is multiplied by the
scale of the bucket, which with `norms` also keeps the mean length of its rows: v, the means and the centroids are in
1/64 steps, w in 1/64, and the axes are int8. Therefore all machines decode the same sums.

*One step for all axes* [fit]. Reverse water-filling: for independent Gaussian coefficients of variances var[j], the
sum of squared errors at R bits per row is smallest if coefficient j has the error min(D, var[j]), where

    R = sum over j of max(0, log2(var[j] / D) / 2)

Uniform quantizers of one step size have about the same error D on all axes (and at most var[j] on axes whose
coefficients round to 0). No bits need to be allocated to axes: an entropy coder that knows the standard deviation of
each axis spends the bits of the formula.

*Distance from the bound.* At high rates, a uniform quantizer with an entropy coder has D = step^2 / 12 and takes
log2(2 pi e / 12) / 2 = 0.254 bit per coefficient more than the rate-distortion function of a Gaussian: 1.53 dB (Gish
and Pierce 1968). No other scalar quantizer with an entropy coder is better at high rates.

*Trellis* [model, coder, kernels.ecq]. A trellis regains most of this loss: it quantizes a row as a whole, with a
denser set of values, of which each state allows one half (trellis-coded quantization, Marcellin and Fischer 1990; we
use entropy-coded union quantizers and the parity of sizes, as in dependent quantization, Schwarz et al. 2019). With
the size g >= 0, and the sign stored separately:

    even states, quantizer y = 0:  v = 2 g steps
    odd states,  quantizer y = 1:  v = 2 g - 1 steps, 0 for g = 0
    next state = moves[state][g mod 2],  state 0 first

The parity of each size, through the state, selects the quantizer of the next coefficient. The moves are Ungerboeck's
codes of 4 or 8 states. Without a trellis (``trellis=0``) v = g steps.

*Choice of sizes* [coder, kernels.ecq]. The encoder uses the Viterbi algorithm to find the sequence of sizes with the
smallest

    sum over j of (t[j] - v[j])^2 + lambda * bits[j]

where t are the coefficients before rounding, in steps, and lambda is a constant for each trellis (Lagrangian
rate-distortion optimization). The bits of a size depend on the previous sizes, through the context described below;
each state keeps the context of its best path. Candidates are the nearest size, the next smaller one, 0, and with a
trellis the next larger one.

*Contexts* [model]. The coder has one frequency table for each quantizer and *level*. A level is a quarter octave of
expected size. The level of coefficient j of a row is the sum, in 1/256 levels, of

    axis[j]                          256 (4 log2(its standard deviation / distance of two values) + 24)
    bucket[b] + centroid[k]          256 times 2 log2 of the mean energy of their rows (priors)
    sum over i < j of gain[i] * score[i] / 4096,   gain[i] = 4096 / (12 + i)

The score is positive if a size is larger than its table expects. A row with more energy than its bucket and centroid
predict is therefore soon coded with the tables of larger sizes. The priors help with the first coefficients of a row,
for which there is nothing to adapt to yet: the lengths of vectors depend on frequency, and some clusters are tighter
than others.

*Symbols.* Sizes 1 to 15 have one symbol per sign, and 0 has one symbol. A larger size shares its symbols with the
other sizes of its half octave, and raw bits follow. A size without a symbol is coded as an escape and 16 bits. A
symbol of frequency f of 4096 costs 12 - log2(f) bits.

*rANS* [kernels.ecq, reader; storage.rans]. The symbols of a block of 16 rows are coded by range asymmetric numeral
systems (Duda 2013), with a state 2^14 <= x < 2^22 and bytes as output. With the frequency f of a symbol, and the sum
F of the frequencies of the symbols before it:

    encode:  while x >= 2^10 f: write x mod 256, x <- floor(x / 256)
             x <- 4096 floor(x / f) + F + x mod f
    decode:  slot = x mod 4096, of the symbol with F <= slot < F + f
             x <- f floor(x / 4096) + slot - F
             while x < 2^14: x <- 256 x + the next byte

The encoder works from the last symbol to the first, starts with x = 2^14, and finally writes the bytes of x.
Decoding must therefore end with x = 2^14 and no byte left, which is checked for every block that is decoded whole.

*Fitting* [fit, statistics, trial, search, stored, measure]. Centroids are found by k-means on a sample, and axes from
the residuals. Tables and sizes are improved in turn, as in Lloyd's algorithm: choose sizes by the tables, count them,
compute tables from the counts. The number of centroids is chosen by trial, from many to few. The step size is
searched so that all bits, tables and centroids included, add up to the bits requested: first on few rows, by the
estimate of a trial, then on the whole sample, by encoding up to about 65,536 rows.

The order of calls: ECQ.fit -> fit._Fit.state -> trial.Candidate.try_step (one step size, tried) -> search.find_step
and search.find_measured (the step size for the bits) -> stored.state_of (the state of the file) ->
measure.measured_bits. ECQ.encode -> encode.encode -> Coder.choose and Coder.write. ECQ.decoder ->
decoder.Decoder.decode -> reader.Reader.

References
----------
H. Gish and J. N. Pierce, "Asymptotically efficient quantizing", IEEE Trans. Inf. Theory 14(5), 1968.
T. M. Cover and J. A. Thomas, "Elements of Information Theory", 1991, section 13.3.3.
G. Ungerboeck, "Channel coding with multilevel/phase signals", IEEE Trans. Inf. Theory 28(1), 1982.
M. W. Marcellin and T. R. Fischer, "Trellis coded quantization of memoryless and Gauss-Markov sources", IEEE Trans.
Commun. 38(1), 1990.
H. Schwarz et al., "Hybrid video coding with trellis-coded quantization", Data Compression Conference, 2019.
J. Duda, "Asymmetric numeral systems", arXiv:1311.2540, 2013.
"""
