import { isKedgeError } from '../../pki/kedge-error.ts';
import type { Check, CheckAnswer, CheckContext, CheckResult } from './check.ts';

/**
 * Asks one check after the other and yields each answer as it comes. After a fatal one that fails, the rest is skipped,
 * by name. Throws what is not a refusal, and the signal's reason.
 */
export async function* runChecks(
  checks: readonly Check[],
  context: CheckContext,
): AsyncGenerator<CheckResult, void, undefined> {
  let stoppedBy: string | null = null;
  for (const check of checks) {
    const answer: CheckAnswer =
      stoppedBy === null
        ? await answerOf(check, context)
        : { verdict: 'skipped', detail: `needs that: ${stoppedBy}` };
    if (check.fatal === true && answer.verdict === 'failed') stoppedBy ??= check.statement;
    yield resultOf(check, answer);
  }
}

async function answerOf(check: Check, context: CheckContext): Promise<CheckAnswer> {
  try {
    return await check.ask(context);
  } catch (error) {
    context.signal.throwIfAborted();
    if (!isKedgeError(error)) throw error;
    return {
      verdict: 'failed',
      detail: error.message,
      hint: error.hint ?? `docs/errors.md explains ${error.code}`,
    };
  }
}

function resultOf({ category, statement }: Check, answer: CheckAnswer): CheckResult {
  return {
    category,
    statement,
    verdict: answer.verdict,
    detail: answer.detail ?? '',
    hint: 'hint' in answer ? answer.hint : '',
  };
}
