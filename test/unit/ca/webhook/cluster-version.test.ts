import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ClusterVersion } from '../../../../ca/webhook/cluster-version.ts';
import type { SidecarSetting } from '../../../../ca/inject/injection-settings.ts';
import { KedgeError } from '../../../../pki/kedge-error.ts';
import { expectRejection } from '../../../support/expect-code.ts';
import { ManualClock } from '../../../support/manual-clock.ts';

function setup(sidecar: SidecarSetting = 'auto') {
  const clock = new ManualClock();
  const world = { answer: { major: '1', minor: '28' } as unknown, away: false, asked: 0 };
  const api = {
    getPath: (): Promise<unknown> => {
      world.asked += 1;
      return world.away
        ? Promise.reject(new KedgeError('kubernetes_unreachable', 'away'))
        : Promise.resolve(world.answer);
    },
  };
  return { clock, world, version: new ClusterVersion({ api, sidecar, clock }) };
}

describe('what the cluster can do', () => {
  it('is asked once for many, and again after a while, because clusters are upgraded', async () => {
    const { clock, world, version } = setup();
    const both = await Promise.all([version.capabilities(), version.capabilities()]);
    assert.deepEqual(both, [{ nativeSidecars: false }, { nativeSidecars: false }]);
    world.answer = { major: '1', minor: '36' };
    assert.deepEqual(await version.capabilities(), { nativeSidecars: false });
    assert.equal(world.asked, 1);
    await clock.advance(3_600_000);
    assert.deepEqual(await version.capabilities(), { nativeSidecars: true });
  });

  it('is what was known last while the API server is away, and nothing before', async () => {
    const { clock, world, version } = setup();
    world.away = true;
    await expectRejection('kubernetes_unreachable', version.capabilities());
    world.away = false;
    await version.capabilities();
    world.away = true;
    await clock.advance(3_600_000);
    assert.deepEqual(await version.capabilities(), { nativeSidecars: false });
  });

  it('is not asked where it is configured', async () => {
    for (const sidecar of ['native', 'container'] as const) {
      const { world, version } = setup(sidecar);
      assert.deepEqual(await version.capabilities(), { nativeSidecars: sidecar === 'native' });
      assert.equal(world.asked, 0);
    }
  });

  it('is not taken from nonsense', async () => {
    const { world, version } = setup();
    world.answer = ['1.29'];
    await expectRejection('kubernetes_answer_invalid', version.capabilities());
  });
});
