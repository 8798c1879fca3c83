import { DevelopmentIssuer, type DevelopmentTokenRequest } from '../ca/attest/development-issuer.ts';
import type { Clock } from '../host/clock.ts';
import { writeFileDurably } from '../host/durable-file.ts';
import type { Random } from '../host/random.ts';

const TOKEN_MODE = 0o600;

/** What {@link keepTokenFresh} needs. */
export interface TokenFileOptions {
  /** The CA's data folder, which holds the development issuer's key. */
  readonly dataFolder: string;
  readonly request: DevelopmentTokenRequest & { readonly ttlSeconds: number };
  /** The file that the agent reads. */
  readonly path: string;
  readonly clock: Clock;
  readonly random: Random;
}

/**
 * Keeps a development token in a file, as the kubelet does with a projected token: written at once, and anew, each
 * time atomically, when half of its life is over. Resolves after the first write with the promise of the rest, which
 * rejects with the reason of the signal, or because the file cannot be written.
 */
export async function keepTokenFresh(
  options: TokenFileOptions,
  signal: AbortSignal,
): Promise<{ readonly ended: Promise<never> }> {
  const { dataFolder, request, path, clock, random } = options;
  const issuer = await DevelopmentIssuer.open({ folder: dataFolder, clock, random });
  await writeToken(path, issuer.mint(request));
  const refresh = async (): Promise<never> => {
    for (;;) {
      await clock.sleep((request.ttlSeconds * 1000) / 2, signal);
      await writeToken(path, issuer.mint(request));
    }
  };
  return { ended: refresh() };
}

/** Writes a token for its reader alone (0600), atomically. Throws `file_unwritable`. */
export async function writeToken(path: string, token: string): Promise<void> {
  await writeFileDurably(path, new TextEncoder().encode(`${token}\n`), { mode: TOKEN_MODE });
}
