import { KedgeError } from './kedge-error.ts';

/** How a check ended. */
export type Attempt<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly refusal: KedgeError };

/**
 * Runs a check and gives its refusal as a value, for callers that go on or say it in words of their own. Only a
 * {@link KedgeError} is a refusal; whatever else is thrown is a mistake in Kedge and passes through.
 */
export function attempt<T>(check: () => T): Attempt<T> {
  try {
    return { ok: true, value: check() };
  } catch (error) {
    if (error instanceof KedgeError) return { ok: false, refusal: error };
    throw error;
  }
}
