/** The tests of the HAProxy feed once more, on a HAProxy of a newer series than Debian 12's. */
import { describe } from 'node:test';
import { isExecutable } from '../../scripts/executable.ts';
import { newerHaproxy } from '../../scripts/peer-folder.ts';

if (isExecutable(newerHaproxy())) {
  process.env['KEDGE_TEST_HAPROXY'] = newerHaproxy();
  await import('./haproxy-feed.test.ts');
} else {
  describe('HAProxy of a newer series', {
    skip: 'not on this machine: npm run peers builds it from Debian',
  }, () => {});
}
