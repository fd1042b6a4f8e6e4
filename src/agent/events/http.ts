/** Requests of HTTP servers and clients (node:http, and fetch). */

import { all, Notes, type Source, type Stop, type Tools } from './tools.ts';

interface ServerMessage {
  readonly request: object;
  readonly response: object;
  readonly socket: object;
}

interface Begun {
  readonly ns: number;
  readonly written: number;
}

/** Bytes that a socket has taken, or given. */
function counter(tools: Tools, name: 'bytesWritten' | 'bytesRead'): (socket: object) => number {
  const { Socket } = tools.require('node:net') as { Socket: { prototype: object } };
  const read = tools.reader(Socket.prototype, name);
  return (socket) => Number(read(socket) ?? 0);
}

/** Requests under way: what began before has a duration of 0. */
function server(tools: Tools, begun: Notes<Begun>): Stop {
  const bytes = counter(tools, 'bytesWritten');
  return tools.channel<ServerMessage>('http.server.request.start', ({ request, socket }) =>
    begun.set(request, { ns: tools.now(), written: bytes(socket) }),
  );
}

export const serverRequestStart: Source = (emit, tools) =>
  tools.channel<ServerMessage>('http.server.request.start', ({ request, socket }) =>
    emit(undefined, tools.id(request), request, socket),
  );

export const serverRequestHeaders: Source = (emit, tools) => {
  const { ServerResponse } = tools.require('http') as { ServerResponse: { prototype: object } };
  const begun = new Notes<Begun>();
  return all(
    server(tools, begun),
    tools.calls(ServerResponse.prototype, 'writeHead', {
      entry: (response, args) => {
        const request = tools.agent.property(response, 'req');
        if (typeof request !== 'object' || request === null) return;
        const since = begun.get(request);
        emit(
          undefined,
          tools.id(request),
          request,
          args[0],
          since === undefined ? 0 : tools.now() - since.ns,
        );
      },
    }),
  );
};

export const serverRequestEnd: Source = (emit, tools) => {
  const begun = new Notes<Begun>();
  const bytes = counter(tools, 'bytesWritten');
  return all(
    server(tools, begun),
    tools.channel<ServerMessage>('http.server.response.finish', ({ request, response, socket }) => {
      const since = begun.get(request);
      const status = tools.number(response, 'statusCode');
      if (since === undefined) emit(undefined, tools.id(request), request, status, 0, 0);
      else
        emit(
          undefined,
          tools.id(request),
          request,
          status,
          bytes(socket) - since.written,
          tools.now() - since.ns,
        );
    }),
  );
};

interface ClientMessage {
  readonly request: object;
  readonly response?: unknown;
  readonly error?: unknown;
}

/** What is kept of a client's request, and given with each event of it. */
interface ClientRequest {
  readonly method: string;
  readonly host: string;
  readonly path: string;
  readonly ns: number;
  status: number;
  bytes: number;
}

/** Where each kind of client says what happens. */
const STARTS = ['http.client.request.start', 'undici:request:create'];
const HEADERS = ['http.client.response.finish', 'undici:request:headers'];
const ERRORS = ['http.client.request.error', 'undici:request:error'];

class Client {
  readonly #tools: Tools;
  readonly #requests = new Notes<ClientRequest>();
  readonly #path: (request: unknown) => unknown;

  constructor(tools: Tools) {
    this.#tools = tools;
    const { ClientRequest } = tools.require('node:http') as { ClientRequest: { prototype: object } };
    this.#path = tools.reader(ClientRequest.prototype, 'path');
  }

  on(names: readonly string[], listener: (message: ClientMessage) => void): Stop {
    return all(...names.map((name) => this.#tools.channel<ClientMessage>(name, listener)));
  }

  /** Notes when requests begin. */
  follow(): Stop {
    return this.on(STARTS, ({ request }) => void this.of(request));
  }

  known(request: object): ClientRequest | undefined {
    return this.#requests.get(request);
  }

  of(request: object): ClientRequest {
    const known = this.#requests.get(request);
    if (known !== undefined) return known;
    const tools = this.#tools;
    const origin = tools.agent.property(request, 'origin');
    const ofFetch = typeof origin === 'string';
    const path = ofFetch ? tools.text(request, 'path') : this.#path(request);
    const made: ClientRequest = {
      method: tools.text(request, 'method'),
      host: ofFetch ? origin : tools.text(request, 'host'),
      path: typeof path === 'string' ? path : '',
      ns: tools.now(),
      status: 0,
      bytes: 0,
    };
    this.#requests.set(request, made);
    return made;
  }

  since({ ns }: ClientRequest): number {
    return this.#tools.now() - ns;
  }
}

export const clientRequestStart: Source = (emit, tools) => {
  const client = new Client(tools);
  return client.on(STARTS, ({ request }) => {
    const { method, host, path } = client.of(request);
    emit(undefined, tools.id(request), method, host, path);
  });
};

export const clientRequestHeaders: Source = (emit, tools) => {
  const client = new Client(tools);
  return all(
    client.follow(),
    client.on(HEADERS, ({ request, response }) => {
      const since = client.known(request);
      const { method, host, path } = since ?? client.of(request);
      const status = tools.number(response, 'statusCode');
      emit(
        undefined,
        tools.id(request),
        method,
        host,
        path,
        status,
        since === undefined ? 0 : client.since(since),
      );
    }),
  );
};

export const clientRequestError: Source = (emit, tools) => {
  const client = new Client(tools);
  return client.on(ERRORS, ({ request, error }) => {
    const { method, host, path } = client.of(request);
    emit(undefined, tools.id(request), method, host, path, error);
  });
};

/** Of node:http the end is when the request is done with its socket, of fetch when the body has come. */
export const clientRequestEnd: Source = (emit, tools) => {
  const client = new Client(tools);
  const sockets = new Notes<number>();
  const { ClientRequest } = tools.require('http') as { ClientRequest: { prototype: object } };
  const end = (request: object, note: ClientRequest): void => {
    const { method, host, path, status, bytes } = note;
    emit(undefined, tools.id(request), method, host, path, status, bytes, client.since(note));
  };
  return all(
    client.follow(),
    client.on(HEADERS, ({ request, response }) => {
      const note = client.known(request);
      if (note !== undefined) note.status = tools.number(response, 'statusCode');
    }),
    tools.channel<{ request: object; chunk?: unknown }>('undici:request:bodyChunkReceived', (message) => {
      const note = client.known(message.request);
      if (note !== undefined) note.bytes += tools.number(message.chunk, 'byteLength');
    }),
    tools.channel<ClientMessage>('undici:request:trailers', ({ request }) => {
      const note = client.known(request);
      if (note !== undefined) end(request, note);
    }),
    endsOf(ClientRequest.prototype, tools, client, sockets, end),
  );
};

function endsOf(
  prototype: object,
  tools: Tools,
  client: Client,
  sockets: Notes<number>,
  end: (request: object, note: ClientRequest) => void,
): Stop {
  const read = counter(tools, 'bytesRead');
  const socketOf = tools.reader(prototype, 'socket');
  return tools.calls(prototype, 'emit', {
    entry: (self, args) => {
      const request = self as object;
      if (args[0] === 'socket' && typeof args[1] === 'object' && args[1] !== null)
        sockets.set(request, read(args[1]));
      if (args[0] !== 'close') return;
      const note = client.known(request);
      if (note === undefined) return;
      const socket =
        socketOf(request) ?? tools.agent.property(tools.agent.property(request, 'res'), 'socket');
      if (typeof socket === 'object' && socket !== null) {
        const from = sockets.get(request);
        if (from !== undefined) note.bytes = Math.max(0, read(socket) - from);
      }
      end(request, note);
    },
  });
}
