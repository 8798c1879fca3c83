import { silentLog } from '../../host/log.ts';
import { systemRandom } from '../../host/random.ts';

/** What an endpoint does with refusals, where a test does not look. */
export const NO_REFUSALS = { log: silentLog, random: systemRandom, onRefusal: (): void => {} } as const;
