import type { SpiffeId, TrustDomain } from '../../pki/spiffe-id.ts';
import type { WorkloadInstance } from './attestor.ts';
import type { AttestSettings } from './attest-settings.ts';
import type { SpiffeIdTemplate } from './spiffe-id-template.ts';

/** Workload instance → SPIFFE ID, by the template of the instance's cluster. */
export class ClusterTemplates {
  readonly #byCluster: ReadonlyMap<string, SpiffeIdTemplate>;
  readonly #others: SpiffeIdTemplate;

  /** `others` is for every cluster that `byCluster` does not name. */
  constructor(byCluster: ReadonlyMap<string, SpiffeIdTemplate>, others: SpiffeIdTemplate) {
    this.#byCluster = byCluster;
    this.#others = others;
  }

  /** Throws `spiffe_id_template_mismatch`. */
  apply(instance: WorkloadInstance, trustDomain: TrustDomain): SpiffeId {
    return (this.#byCluster.get(instance.cluster) ?? this.#others).apply(instance, trustDomain);
  }
}

/** The templates that a configuration gives. */
export function clusterTemplates(config: {
  readonly attest: Pick<AttestSettings, 'issuers'>;
  readonly svid: { readonly idTemplate: SpiffeIdTemplate };
}): ClusterTemplates {
  const own = config.attest.issuers.map(({ cluster, idTemplate }) => [cluster, idTemplate] as const);
  return new ClusterTemplates(new Map(own), config.svid.idTemplate);
}
