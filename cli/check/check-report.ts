import { printable } from '../text-table.ts';
import type { CheckResult } from './check.ts';

const SIGNS: Readonly<Record<CheckResult['verdict'], string>> = {
  ok: '√',
  warning: '‼',
  failed: '×',
  skipped: '-',
};

/** One answer as lines: sign and statement, then what was found and what to do; a heading before a new category. */
export function resultLines(result: CheckResult, previousCategory: string | null): readonly string[] {
  const { category, statement, verdict, detail, hint } = result;
  const heading =
    category === previousCategory
      ? []
      : [...(previousCategory === null ? [] : ['']), category, '-'.repeat(category.length)];
  return [
    ...heading,
    `${SIGNS[verdict]} ${statement}${verdict === 'ok' && detail !== '' ? `: ${printable(detail)}` : ''}`,
    ...(verdict !== 'ok' && detail !== '' ? [`    ${printable(detail)}`] : []),
    ...(hint === '' ? [] : [`    hint: ${printable(hint)}`]),
  ];
}

/** The closing line. */
export function summaryLine(results: readonly CheckResult[]): string {
  const count = (verdict: CheckResult['verdict']): number =>
    results.filter((result) => result.verdict === verdict).length;
  const parts = [
    `${count('ok')} ok`,
    `${count('warning')} warnings`,
    `${count('failed')} failed`,
    `${count('skipped')} skipped`,
  ];
  return `checks: ${parts.join(', ')}`;
}
