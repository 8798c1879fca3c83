import fc from 'fast-check';
import { isKedgeError } from '../../pki/kedge-error.ts';

/** What one fuzz run saw. */
export interface FuzzTally {
  readonly inputs: number;
  readonly accepted: number;
}

/**
 * Throws `inputs` hostile inputs at a parser: it may accept or refuse with a `KedgeError`; anything else fails the
 * run with the seed and the shrunk input. `onAccepted` holds what was accepted against a second opinion.
 */
export function fuzz<I, O>(
  inputs: number,
  arbitrary: fc.Arbitrary<I>,
  parse: (input: I) => O,
  onAccepted: (input: I, output: O) => void = () => undefined,
): FuzzTally {
  let accepted = 0;
  const seed = process.env['KEDGE_FC_SEED'];
  fc.assert(
    fc.property(arbitrary, (input) => {
      let output: O;
      try {
        output = parse(input);
      } catch (error) {
        if (isKedgeError(error)) return;
        throw error;
      }
      accepted += 1;
      onAccepted(input, output);
    }),
    { numRuns: inputs, ...(seed === undefined ? {} : { seed: Number(seed) }) },
  );
  return { inputs, accepted };
}
