import type { Authority, Phase, TrustState } from './trust-state.ts';

/** What became of one authority between two trust states. */
export interface PhaseChange {
  readonly authority: 'anchor' | 'issuer';
  /** Subject key identifier, lower-case hex. */
  readonly id: string;
  readonly change: 'prepared' | 'activated' | 'retired' | 'removed' | 'tainted';
}

const ENTERED = { prepared: 'prepared', active: 'activated', retired: 'retired' } as const satisfies Record<
  Phase,
  PhaseChange['change']
>;

/** What differs between two trust states, anchors first. Pure. */
export function phaseChanges(previous: TrustState, next: TrustState): readonly PhaseChange[] {
  return [
    ...changesOf('anchor', previous.anchors, next.anchors),
    ...changesOf('issuer', previous.issuers, next.issuers),
  ];
}

function changesOf(
  authority: PhaseChange['authority'],
  previous: readonly Authority[],
  next: readonly Authority[],
): readonly PhaseChange[] {
  const before = new Map(previous.map((known) => [known.id, known]));
  const after = new Set(next.map(({ id }) => id));
  return [
    ...next.flatMap((now): readonly PhaseChange[] => {
      const known = before.get(now.id);
      const tainted = now.taintedAtMs !== null && (known?.taintedAtMs ?? null) === null;
      return [
        ...(known?.phase === now.phase ? [] : [{ authority, id: now.id, change: ENTERED[now.phase] }]),
        ...(tainted ? [{ authority, id: now.id, change: 'tainted' } as const] : []),
      ];
    }),
    ...previous
      .filter(({ id }) => !after.has(id))
      .map(({ id }) => ({ authority, id, change: 'removed' }) as const),
  ];
}
