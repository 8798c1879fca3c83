import { CA_SELECTOR, INSTALL_NAMES, INSTALL_PORTS, INSTALLED_LABELS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';
import type { KubernetesObject } from './kubernetes-object.ts';
import { listed } from './value-forms.ts';

/**
 * What may reach the CA, and what it may reach.
 *
 * In: pods of every namespace, and the nodes that were named, on the ports for agents and for metrics; on the webhook's
 * port whoever was named, anybody where nobody was, for the API server's address is not known beforehand. Policies add
 * up: one that an operator puts beside these narrows nothing. Out: DNS, and the ports of the API server, anywhere.
 */
export function networkPolicies(values: InstallValues): readonly KubernetesObject[] {
  const nodes = values.nodeCidrs === 'none' ? [] : ipBlocks(values.nodeCidrs);
  const webhookFrom = values.webhookFrom === 'anywhere' ? {} : { from: ipBlocks(values.webhookFrom) };
  return [
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: INSTALL_NAMES.ca, namespace: values.namespace, labels: INSTALLED_LABELS },
      spec: {
        podSelector: { matchLabels: CA_SELECTOR },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [
          {
            from: [{ namespaceSelector: {} }, ...nodes],
            ports: [tcp(INSTALL_PORTS.grpc), tcp(INSTALL_PORTS.http)],
          },
          { ...webhookFrom, ports: [tcp(INSTALL_PORTS.webhook)] },
        ],
        egress: [
          { ports: [{ port: 53, protocol: 'UDP' }, tcp(53)] },
          { ports: listed(values.apiServerPorts).map((port) => tcp(Number(port))) },
        ],
      },
    },
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      // Nothing else runs in this namespace; what strays into it talks to nobody.
      metadata: { name: 'kedge-default-deny', namespace: values.namespace, labels: INSTALLED_LABELS },
      spec: { podSelector: {}, policyTypes: ['Ingress', 'Egress'] },
    },
  ];
}

function ipBlocks(cidrs: string): readonly object[] {
  return listed(cidrs).map((cidr) => ({ ipBlock: { cidr } }));
}

function tcp(port: number): { readonly port: number; readonly protocol: 'TCP' } {
  return { port, protocol: 'TCP' };
}
