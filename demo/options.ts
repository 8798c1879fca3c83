import { parseArgs } from 'node:util';
import { KedgeError, quote } from '../pki/kedge-error.ts';

/** What `npm start` takes. */
export interface DemoOptions {
  /** The demo ends by itself when each workload has seen so many SVID rotations; undefined = it runs on. */
  readonly rotations: number | undefined;
  readonly help: boolean;
}

const MAX_ROTATIONS = 1_000_000;

/** The text of `npm start -- --help`. */
export const DEMO_HELP = `npm start runs Kedge on this machine: a CA, two agents, two workloads that talk mTLS.

Options, after npm start --:
  --rotations <number>  end when each workload has seen so many SVID rotations
  --help                explain the demo

Exit codes:
  0  ended by Ctrl-C, or after the rotations without a failed request
  1  a part of it ended by itself, or a request failed
  2  bad usage
`;

/** Reads the command line of the demo. Throws `usage_invalid`. */
export function parseDemoOptions(argv: readonly string[]): DemoOptions {
  const hint = 'see npm start -- --help';
  let values: { rotations?: string | undefined; help?: boolean | undefined };
  try {
    const options = { rotations: { type: 'string' }, help: { type: 'boolean', short: 'h' } } as const;
    ({ values } = parseArgs({ args: [...argv], options }));
  } catch (error) {
    throw new KedgeError('usage_invalid', error instanceof Error ? error.message : String(error), { hint });
  }
  const { rotations, help = false } = values;
  if (rotations === undefined) return { rotations: undefined, help };
  const count = /^[1-9][0-9]{0,6}$/.test(rotations) ? Number(rotations) : Number.NaN;
  if (!(count <= MAX_ROTATIONS)) {
    throw new KedgeError('usage_invalid', `--rotations does not take ${quote(rotations)}`, {
      hint: `give a whole number from 1 to ${MAX_ROTATIONS}`,
    });
  }
  return { rotations: count, help };
}
