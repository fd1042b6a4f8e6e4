/** What the programs of one script share: maps, property paths, positions and asynchronous actions. */

import type { PropertyPath } from '../../kernel/trace/js-kfuncs.ts';
import type * as ast from '../ast.ts';
import type { MapInfo, Semantics } from '../passes/semantics.ts';
import type { Span } from '../position.ts';
import type { AsyncAction, MapValueType, ScriptConfig, ScriptMap, ScriptPosition } from '../script.ts';
import type { LType } from '../types.ts';
import * as t from '../types.ts';

/** Bytes of the ring buffer. */
const RING_SIZE = 1 << 23;

/** A map of the script as the generator sees it. */
export interface MapRef {
  readonly index: number;
  readonly info: MapInfo;
  readonly key: readonly { offset: number; type: LType }[];
  readonly keySize: number;
  readonly valueSize: number;
  /** Keyless aggregations are arrays of one: found without a hash. */
  readonly isArray: boolean;
}

export class Module {
  readonly semantics: Semantics;
  readonly config: ScriptConfig;
  readonly paths: PropertyPath[] = [{ keys: [], position: 0 }];
  readonly positions: ScriptPosition[] = [];
  readonly actions: AsyncAction[] = [];
  readonly ring: number;
  scratchBytes = 0;
  zeroBytes = 0;
  readonly #maps = new Map<string, MapRef>();
  readonly #positionOf = new Map<number, number>();
  readonly #pathOf = new Map<string, number>();
  readonly #reportedAt = new Map<number, number>();
  readonly #actionOf = new Map<object, number>();
  readonly #internal: ('ring' | 'scratch' | 'zeros' | 'start' | 'reported')[] = [];

  constructor(semantics: Semantics) {
    this.semantics = semantics;
    this.config = semantics.config;
    for (const info of semantics.maps.values()) {
      const key = t.layout(info.key ?? [], this.config);
      const isArray = info.value.kind === 'agg' && key.size === 0;
      this.#maps.set(info.name, {
        index: this.#maps.size,
        info,
        key: key.fields,
        keySize: isArray ? 4 : Math.max(8, key.size),
        valueSize:
          info.value.kind === 'agg' ? cellBytes(info.value.agg) : t.storageSize(info.value, this.config),
        isArray,
      });
    }
    this.ring = this.#internalMap('ring');
  }

  map(name: string): MapRef {
    return this.#maps.get(name)!;
  }

  #internalMap(name: 'ring' | 'scratch' | 'zeros' | 'start' | 'reported'): number {
    let at = this.#internal.indexOf(name);
    if (at < 0) at = this.#internal.push(name) - 1;
    return this.#maps.size + at;
  }

  /** Per-CPU memory for what does not fit on the stack. */
  scratch(bytes: number): number {
    this.scratchBytes = Math.max(this.scratchBytes, bytes);
    return this.#internalMap('scratch');
  }

  /** An array entry that stays zero: the initial value of large cells. */
  zeros(bytes: number): number {
    this.zeroBytes = Math.max(this.zeroBytes, bytes);
    return this.#internalMap('zeros');
  }

  /** When the script began, for `elapsed`. */
  start(): number {
    return this.#internalMap('start');
  }

  /** Offset of a place's mark in the map `reported`: not 0 once its failure has been told. */
  reported(span: Span): { map: number; off: number } {
    let off = this.#reportedAt.get(span.start);
    if (off === undefined) {
      off = this.#reportedAt.size * 8;
      this.#reportedAt.set(span.start, off);
    }
    return { map: this.#internalMap('reported'), off };
  }

  position(span: Span): number {
    let index = this.#positionOf.get(span.start);
    if (index === undefined) {
      index = this.positions.push(this.semantics.script.source.scriptPosition(span)) - 1;
      this.#positionOf.set(span.start, index);
    }
    return index;
  }

  /** The number of a property path; 0 without keys. */
  path(keys: readonly (string | number)[], span: Span): number {
    return keys.length === 0 ? 0 : this.#pathAt(keys, span);
  }

  /** The number of a path that leads nowhere, for what is read of the value itself: faults are told with their place. */
  barePath(span: Span): number {
    return this.#pathAt([], span);
  }

  #pathAt(keys: readonly (string | number)[], span: Span): number {
    const id = `${span.start}:${JSON.stringify(keys)}`;
    let index = this.#pathOf.get(id);
    if (index === undefined) {
      index = this.paths.push({ keys, position: this.position(span) }) - 1;
      this.#pathOf.set(id, index);
    }
    return index;
  }

  /** The number of an action; one for each call in the source, however often it is emitted. */
  action(call: ast.Expr | ast.Statement, make: () => AsyncAction): number {
    let index = this.#actionOf.get(call);
    if (index === undefined) {
      index = this.actions.push(make()) - 1;
      this.#actionOf.set(call, index);
    }
    return index;
  }

  /** All maps, once every program is generated. */
  scriptMaps(): ScriptMap[] {
    const maps = [...this.#maps.values()].map((ref) => this.#scriptMap(ref));
    const none = {
      name: undefined,
      key: [],
      value: { kind: 'plain', type: { kind: 'int', size: 8, signed: false } },
    } as const;
    for (const name of this.#internal) {
      switch (name) {
        case 'ring':
          maps.push({
            ...none,
            spec: { name, type: 'ringbuf', keySize: 0, valueSize: 0, maxEntries: RING_SIZE },
          });
          break;
        case 'scratch':
          maps.push({
            ...none,
            spec: {
              name,
              type: 'percpu_array',
              keySize: 4,
              valueSize: Math.max(8, this.scratchBytes),
              maxEntries: 1,
            },
          });
          break;
        case 'zeros':
          maps.push({
            ...none,
            spec: { name, type: 'array', keySize: 4, valueSize: Math.max(8, this.zeroBytes), maxEntries: 1 },
          });
          break;
        case 'start':
          maps.push({ ...none, spec: { name, type: 'array', keySize: 4, valueSize: 8, maxEntries: 1 } });
          break;
        case 'reported': {
          const valueSize = this.#reportedAt.size * 8;
          maps.push({ ...none, spec: { name, type: 'array', keySize: 4, valueSize, maxEntries: 1 } });
        }
      }
    }
    return maps;
  }

  #scriptMap(ref: MapRef): ScriptMap {
    const { info, keySize, valueSize } = ref;
    const aggregate = info.value.kind === 'agg';
    const scalar = ref.key.length === 0;
    const value: MapValueType =
      info.value.kind === 'agg'
        ? info.value.agg
        : { kind: 'plain', type: t.toScriptType(info.value, this.config) };
    return {
      name: `@${info.name}`,
      spec: {
        name: `@${info.name}`,
        type: ref.isArray ? 'percpu_array' : aggregate ? 'percpu_hash' : 'hash',
        keySize,
        valueSize,
        maxEntries: scalar ? 1 : this.config.maxMapKeys,
      },
      key: ref.key.map(({ offset, type }) => ({ offset, type: t.toScriptType(type, this.config) })),
      value,
    };
  }
}

/** Bytes of an aggregation's cell. */
function cellBytes(agg: Exclude<MapValueType, { kind: 'plain' }>): number {
  switch (agg.kind) {
    case 'count':
    case 'sum':
      return 8;
    case 'hist':
    case 'lhist':
      return agg.buckets * 8;
    default:
      return 16;
  }
}
