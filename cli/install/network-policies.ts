import { CA_SELECTOR, INSTALL_NAMES, INSTALL_PORTS, INSTALLED_LABELS } from './install-names.ts';
import type { InstallValues } from './install-values.ts';
import type { KubernetesObject } from './kubernetes-object.ts';

/**
 * What may reach the CA, and what it may reach.
 *
 * In: agents of every namespace on the gRPC port, anybody on the webhook port (the API server's address is not known
 * beforehand), pods of any namespace on the metrics port. Out: DNS, and TLS ports of the API server.
 */
export function networkPolicies(values: InstallValues): readonly KubernetesObject[] {
  const fromPods = [{ namespaceSelector: {} }];
  return [
    {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: INSTALL_NAMES.ca, namespace: values.namespace, labels: INSTALLED_LABELS },
      spec: {
        podSelector: { matchLabels: CA_SELECTOR },
        policyTypes: ['Ingress', 'Egress'],
        ingress: [
          { from: fromPods, ports: [tcp(INSTALL_PORTS.grpc), tcp(INSTALL_PORTS.http)] },
          { ports: [tcp(INSTALL_PORTS.webhook)] },
        ],
        egress: [{ ports: [{ port: 53, protocol: 'UDP' }, tcp(53)] }, { ports: [tcp(443), tcp(6443)] }],
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

function tcp(port: number): { readonly port: number; readonly protocol: 'TCP' } {
  return { port, protocol: 'TCP' };
}
