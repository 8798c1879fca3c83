import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  checkLifecycleSettings,
  DEFAULT_LIFECYCLE_SETTINGS,
  DEFAULT_ROTATION_SETTINGS,
  type LifecycleSettings,
} from '../../../../ca/authority/lifecycle-settings.ts';
import { expectCode } from '../../../support/expect-code.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

describe('settings of the lifecycle', () => {
  it('are the defaults of the design', () => {
    checkLifecycleSettings(DEFAULT_LIFECYCLE_SETTINGS);
    assert.deepEqual(DEFAULT_LIFECYCLE_SETTINGS, {
      anchorLifetimeMs: 1_825 * DAY,
      issuerLifetimeMs: 30 * DAY,
      issuerRenewAfterMs: 20 * DAY,
      maxSvidTtlMs: DAY,
      backdateMs: 2 * MINUTE,
      clockSkewMs: 5 * MINUTE,
      rotation: { automatic: true, evidence: 'best', anchorRenewAfterMs: null, settleMs: 0 },
    });
  });

  it('may be as short as a demonstration needs', () => {
    checkLifecycleSettings({
      anchorLifetimeMs: HOUR,
      issuerLifetimeMs: 3 * MINUTE,
      issuerRenewAfterMs: 2 * MINUTE,
      maxSvidTtlMs: 20_000,
      backdateMs: 0,
      clockSkewMs: 0,
      rotation: DEFAULT_ROTATION_SETTINGS,
    });
  });

  const refused: readonly { name: string; change: Partial<LifecycleSettings>; message: RegExp }[] = [
    {
      name: 'a lifetime of nothing',
      change: { anchorLifetimeMs: 0 },
      message: /lifetime of a trust anchor is 0 ms/,
    },
    { name: 'a fraction', change: { maxSvidTtlMs: 1_000.5 }, message: /longest TTL of an SVID is 1000.5 ms/ },
    {
      name: 'not a number',
      change: { issuerLifetimeMs: Number.NaN },
      message: /lifetime of an issuer is NaN/,
    },
    { name: 'more than a century', change: { anchorLifetimeMs: 101 * 365 * DAY }, message: /trust anchor/ },
    { name: 'a negative backdating', change: { backdateMs: -1 }, message: /backdating is -1/ },
    {
      name: 'an endless clock skew',
      change: { clockSkewMs: Number.POSITIVE_INFINITY },
      message: /clock skew/,
    },
    {
      name: 'an issuer replaced after its end',
      change: { issuerRenewAfterMs: 30 * DAY },
      message: /only after its end/,
    },
    {
      name: 'an issuer that outlives its anchor',
      change: { anchorLifetimeMs: 29 * DAY },
      message: /outlive its trust anchor/,
    },
    {
      name: 'an SVID that outlives its issuer',
      change: { maxSvidTtlMs: 10 * DAY + 1 },
      message: /would outlive the issuer/,
    },
    {
      name: 'more retired issuers than the state may hold',
      change: { issuerRenewAfterMs: HOUR / 2, maxSvidTtlMs: DAY },
      message: /about 49 retired issuers/,
    },
  ];
  for (const { name, change, message } of refused) {
    it(`are refused: ${name}`, () => {
      const check = (): void => checkLifecycleSettings({ ...DEFAULT_LIFECYCLE_SETTINGS, ...change });
      const error = expectCode('config_invalid', check);
      assert.match(error.message, message);
      assert.ok(error.hint !== undefined);
    });
  }
});
