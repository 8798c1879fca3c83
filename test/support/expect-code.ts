import assert from 'node:assert/strict';
import type { ErrorCode } from '../../pki/error-table.ts';
import { isKedgeError, type KedgeError } from '../../pki/kedge-error.ts';

/** Asserts that `action` throws a KedgeError with `code`, and gives it. */
export function expectCode(code: ErrorCode, action: () => unknown): KedgeError {
  try {
    action();
  } catch (error) {
    return checked(code, error);
  }
  return assert.fail(`nothing was thrown, expected ${code}`);
}

/** The same for a promise. */
export async function expectRejection(code: ErrorCode, promise: Promise<unknown>): Promise<KedgeError> {
  try {
    await promise;
  } catch (error) {
    return checked(code, error);
  }
  return assert.fail(`nothing was thrown, expected ${code}`);
}

function checked(code: ErrorCode, error: unknown): KedgeError {
  if (!isKedgeError(error)) throw error;
  assert.equal(error.code, code, `${error.code}: ${error.message}`);
  return error;
}
