/** An SDS client made from the published protos, that shows a test everything it gets. */
import { Client, type ClientDuplexStream, credentials, type ServiceError } from '@grpc/grpc-js';
import { SDS_SERVICE } from '../../agent/feed/sds-feed.ts';
import { SECRET_TYPE_URL } from '../../agent/feed/sds-resources.ts';
import type { Node } from '../../proto/gen/envoy/config/core/v3/base.ts';
import { Secret } from '../../proto/gen/envoy/extensions/transport_sockets/tls/v3/secret.ts';
import {
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
  DiscoveryRequest,
  DiscoveryResponse,
} from '../../proto/gen/envoy/service/discovery/v3/discovery.ts';
import { ResponseStream } from './workload-client.ts';

export const ENVOY_NODE: Node = {
  id: 'envoy-1',
  cluster: 'shop',
  metadata: undefined,
  userAgentName: 'envoy',
  userAgentVersionType: {
    $case: 'userAgentBuildVersion',
    value: { version: { majorNumber: 1, minorNumber: 35, patch: 0 } },
  },
};

export function discoveryRequest(more: Partial<DiscoveryRequest> = {}): DiscoveryRequest {
  return {
    versionInfo: '',
    node: undefined,
    resourceNames: [],
    typeUrl: SECRET_TYPE_URL,
    responseNonce: '',
    errorDetail: undefined,
    resourceLocators: [],
    ...more,
  };
}

export function deltaDiscoveryRequest(more: Partial<DeltaDiscoveryRequest> = {}): DeltaDiscoveryRequest {
  return {
    node: undefined,
    typeUrl: SECRET_TYPE_URL,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: {},
    responseNonce: '',
    errorDetail: undefined,
    resourceLocatorsSubscribe: [],
    resourceLocatorsUnsubscribe: [],
    ...more,
  };
}

/** One discovery stream: requests go in by `send`, responses come as of a {@link ResponseStream}. */
class DiscoveryStream<Request, Response> extends ResponseStream<Response> {
  readonly #duplex: ClientDuplexStream<Request, Response>;

  constructor(call: ClientDuplexStream<Request, Response>) {
    super(call);
    this.#duplex = call;
  }

  send(request: Request): void {
    this.#duplex.write(request);
  }

  end(): void {
    this.#duplex.end();
  }
}

/** A `StreamSecrets` stream that answers as Envoy does. */
export class SotwStream extends DiscoveryStream<DiscoveryRequest, DiscoveryResponse> {
  request(resourceNames: readonly string[], more: Partial<DiscoveryRequest> = {}): void {
    this.send(discoveryRequest({ node: ENVOY_NODE, resourceNames: [...resourceNames], ...more }));
  }

  ack({ versionInfo, nonce }: DiscoveryResponse, resourceNames: readonly string[]): void {
    this.request(resourceNames, { versionInfo, responseNonce: nonce, node: undefined });
  }

  nack({ nonce }: DiscoveryResponse, resourceNames: readonly string[], message = 'refused'): void {
    this.request(resourceNames, { responseNonce: nonce, errorDetail: { code: 3, message, details: [] } });
  }
}

/** A `DeltaSecrets` stream. */
export class DeltaStream extends DiscoveryStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse> {
  request(more: Partial<DeltaDiscoveryRequest>): void {
    this.send(deltaDiscoveryRequest({ node: ENVOY_NODE, ...more }));
  }

  ack({ nonce }: DeltaDiscoveryResponse): void {
    this.request({ responseNonce: nonce });
  }
}

export class SdsClient {
  readonly #client: Client;

  constructor(socketPath: string) {
    this.#client = new Client(`unix:${socketPath}`, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
      'grpc.initial_reconnect_backoff_ms': 100,
    });
  }

  stream(): SotwStream {
    return new SotwStream(
      this.#client.makeBidiStreamRequest(
        `/${SDS_SERVICE}/StreamSecrets`,
        (request) => Buffer.from(DiscoveryRequest.encode(request).finish()),
        (bytes) => DiscoveryResponse.decode(bytes),
      ),
    );
  }

  delta(): DeltaStream {
    return new DeltaStream(
      this.#client.makeBidiStreamRequest(
        `/${SDS_SERVICE}/DeltaSecrets`,
        (request) => Buffer.from(DeltaDiscoveryRequest.encode(request).finish()),
        (bytes) => DeltaDiscoveryResponse.decode(bytes),
      ),
    );
  }

  /** A stream of one method, on which bytes are sent as they are. */
  raw(method: 'StreamSecrets' | 'DeltaSecrets'): DiscoveryStream<Buffer, Buffer> {
    const same = (bytes: Buffer): Buffer => bytes;
    return new DiscoveryStream(this.#client.makeBidiStreamRequest(`/${SDS_SERVICE}/${method}`, same, same));
  }

  fetch(more: Partial<DiscoveryRequest> = {}): Promise<DiscoveryResponse> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        `/${SDS_SERVICE}/FetchSecrets`,
        (request: DiscoveryRequest) => Buffer.from(DiscoveryRequest.encode(request).finish()),
        (bytes) => DiscoveryResponse.decode(bytes),
        discoveryRequest({ node: ENVOY_NODE, ...more }),
        (error, response) => (response === undefined ? reject(error as ServiceError) : resolve(response)),
      );
    });
  }

  close(): void {
    this.#client.close();
  }
}

/** The secrets of a response, by name. */
export function secretsOf(response: DiscoveryResponse | DeltaDiscoveryResponse): ReadonlyMap<string, Secret> {
  const values = response.resources.map((item) => ('resource' in item ? item.resource : item));
  return new Map(
    values.map((any) => {
      const secret = Secret.decode(any?.value ?? new Uint8Array());
      return [secret.name, secret];
    }),
  );
}

/** The PEM chain of a TlsCertificate. */
export function chainOf(secret: Secret | undefined): string {
  const source =
    secret?.type?.$case === 'tlsCertificate' ? secret.type.value.certificateChain?.specifier : undefined;
  return source?.$case === 'inlineBytes' ? Buffer.from(source.value).toString('latin1') : '';
}

/** The PEM private key of a TlsCertificate. */
export function privateKeyOf(secret: Secret | undefined): string {
  const source =
    secret?.type?.$case === 'tlsCertificate' ? secret.type.value.privateKey?.specifier : undefined;
  return source?.$case === 'inlineBytes' ? Buffer.from(source.value).toString('latin1') : '';
}
