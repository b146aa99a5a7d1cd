"""The method `ecq`: entropy-coded quantization.

Product quantization spends the same bits on every sub-vector and every word. Here each coefficient is rounded to a
multiple of one step, and an entropy coder makes what is expected cheap. This is how a row is taken apart, and put
together again; docs/format.md has the bytes, and the modules named in brackets the details.

*The model of a row* [trial, decoder]. Rows are in order of frequency. Row i is in rank bucket b (the first 255 rows,
then one bucket an octave) and has the centroid k that is nearest to it after its bucket's mean is taken off:

    x[i] = mean[b] + centroid[k] + sum over j of w[b] * v[i, j] * axis[j]

The axes are the principal axes of what is left (the Karhunen-Loeve transform), so that the coefficients are nearly
uncorrelated. v[i, j] is a quantized coefficient, and w[b] is the bucket's relative step: above 1, its
rows get fewer bits (the parameter `weights`; 1 by default).
All numbers are integers until a bucket's scale is multiplied in (which with `norms` also keeps the mean length of its
rows): v, the means and the centroids are in 1/64 steps, w in 1/64, and the axes are int8. So all machines decode the
same sums.

*One step for all axes* [fit]. Reverse water-filling: the least sum of squared errors at R bits a row, for independent
Gaussian coefficients of variances var[j], gives each the error min(D, var[j]), where

    R = sum over j of max(0, log2(var[j] / D) / 2)

Uniform quantizers of one step have about one error D on all axes (and at most var[j] on those that round to 0), so no
bits are allotted to axes: an entropy coder that knows the spread of each axis spends those of the formula.

*Distance from the bound.* A uniform quantizer with an entropy coder has D = step^2 / 12 at high rates, and takes
log2(2 pi e / 12) / 2 = 0.254 bit a coefficient more than the rate-distortion function of a Gaussian: 1.53 dB (Gish
and Pierce 1968). No scalar quantizer with such a coder does better there.

*Trellis* [model, coder, kernels.ecq]. A trellis takes back most of that: it quantizes a row as a whole, with a denser
set of values of which each state allows a half (trellis-coded quantization, Marcellin and Fischer 1990; with
entropy-coded union quantizers and sizes' parity as in dependent quantization, Schwarz et al. 2019). With the size g
>= 0, the sign apart:

    even states, quantizer y = 0:  v = 2 g steps
    odd states,  quantizer y = 1:  v = 2 g - 1 steps, 0 for g = 0
    next state = moves[state][g mod 2],  state 0 first

so that the parity of each size says which quantizer the next coefficient has. The moves are Ungerboeck's codes of 4
or 8 states. Without a trellis (``trellis=0``) v = g steps.

*Choice of sizes* [coder, kernels.ecq]. Encoding looks for the sequence of sizes with the least

    sum over j of (t[j] - v[j])^2 + lambda * bits[j]

by the Viterbi algorithm, t being the coefficients before rounding, in steps, and lambda a constant for each trellis
(Lagrangian rate-distortion optimization). The bits of a size depend on those before it, through the context below;
each state keeps the context of its best path. Candidates are the nearest size, one below, 0, and with a trellis one
above.

*Contexts* [model]. The coder has one table of frequencies for each *level*, a quarter octave of expected size, and
quantizer. The level of coefficient j of a row is the sum, in 1/256 levels, of

    axis[j]                          256 (4 log2 of its standard deviation in distances of values, + 24)
    bucket[b] + centroid[k]          256 times 2 log2 of the mean energy of their rows (priors)
    sum over i < j of gain[i] * score[i] / 4096,   gain[i] = 4096 / (12 + i)

The score is above 0 where a size is larger than its table expects, so that a row of more energy than its bucket and
centroid say is soon coded by the tables of larger sizes. The priors serve the first coefficients of a row, which have
none before them to learn from: frequent words have other lengths than rare ones, and some clusters are tighter than
others.

*Symbols.* Sizes below 16 have a symbol of either sign each; larger ones share one with the half octave they are in,
and raw bits follow; what has no symbol is escaped with 16 bits. A symbol of frequency f of 4096 costs 12 - log2(f)
bits.

*rANS* [kernels.ecq, reader; storage.rans]. The symbols of a block of 16 rows are coded by range asymmetric numeral
systems (Duda 2013) with a state 2^14 <= x < 2^22 and bytes. With a symbol's frequency f, and F the frequencies before
it:

    encode:  while x >= 2^10 f: write x mod 256, x <- floor(x / 256)
             x <- 4096 floor(x / f) + F + x mod f
    decode:  slot = x mod 4096, of the symbol with F <= slot < F + f
             x <- f floor(x / 4096) + slot - F
             while x < 2^14: x <- 256 x + the next byte

Encoding goes from the last symbol to the first, starts with x = 2^14, and writes the bytes of x at its end; so
decoding must end with x = 2^14 and no byte left, which is checked for each block that is decoded whole.

*Fitting* [fit, statistics, trial, search, stored]. k-means for the centroids, on a sample; axes from the residuals;
tables by turns with sizes, as in Lloyd's algorithm: choose sizes by tables, count them, make tables of the counts.
How many centroids pay is tried from many to few; the step is searched so that the bits of everything, tables and
centroids too, are those asked for.

The order of calls: ECQ.fit -> fit._Fit.state -> trial.Candidate.try_step (one step, tried) -> search.find_step and
search.settle (the step for the bits) -> stored.state_of (what a file has). ECQ.encode -> encode.encode ->
Coder.choose and Coder.write. ECQ.decoder -> decoder.Decoder.decode -> reader.Reader.

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
