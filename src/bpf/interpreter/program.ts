/** Verified programs in the interpreter: the same memory, the same imports and the same results as their Wasm module. */

import { aLayout, aMemory, aVerifiedProgram } from '../argument-shapes.ts';
import { aBigint, anObject, checkArgument, optional } from '../arguments.ts';
import { BpfError, ERRNO } from '../errors.ts';
import { helperById } from '../helpers/helpers.ts';
import { kernelProto } from '../helpers/kernel-protos.ts';
import * as isa from '../isa.ts';
import { type MemoryLayout, percpuBlock } from '../layout.ts';
import { ArenaMemory } from '../maps/arena-memory.ts';
import { ArrayMap } from '../maps/array.ts';
import { HashMap } from '../maps/hashtab.ts';
import { openMap } from '../maps/map.ts';
import type { BpfMap } from '../maps/map-types.ts';
import { viewMemory } from '../maps/memory-view.ts';
import { commitRecord, RingBuffer } from '../maps/ringbuf.ts';
import { loadPacket } from '../sk-buff.ts';
import { arenaAccesses, probedLoads } from '../verifier/probes.ts';
import type { VerifiedProgram } from '../verifier/types.ts';
import { Interpreter } from './interpreter.ts';
import type { InterpretedArena } from './options.ts';

/** The functions of a Wasm module's import object: `helper.<name>`, `kfunc.<name>`, with the module's types. */
export type ProgramImports = Readonly<
  Record<'helper' | 'kfunc', Readonly<Record<string, ((...args: never[]) => unknown) | undefined>>>
>;

export interface InterpretOptions {
  /** CPU number. Default 0. */
  readonly cpu?: number;
  readonly imports?: Partial<ProgramImports>;
  /** In a machine: the map at an address, whether or not it is among the layout's. */
  readonly mapAt?: (address: number) => BpfMap | undefined;
}

/** Of the low 64 bits. */
const leadingZeros = (value: bigint): bigint => {
  const bits = BigInt.asUintN(64, value);
  return bits === 0n ? 64n : BigInt(64 - bits.toString(2).length);
};

const address = (value: bigint): number => Number(BigInt.asUintN(32, value));
const i32 = (value: bigint): number => Number(BigInt.asIntN(32, value));
const MAX_WAKEUP_FLAGS = 3n;

/**
 * An execution of a verified program, ready for step() or run(). Throws BpfError EINVAL, when such an instruction runs, for a helper or
 * kfunc that the imports lack.
 */
export function interpretProgram(
  verified: VerifiedProgram,
  layout: MemoryLayout,
  memory: WebAssembly.Memory,
  r1: bigint,
  options: InterpretOptions = {},
): Interpreter {
  checkArgument('interpretProgram()', 'verified', verified, aVerifiedProgram);
  checkArgument('interpretProgram()', 'layout', layout, aLayout);
  checkArgument('interpretProgram()', 'memory', memory, aMemory);
  checkArgument('interpretProgram()', 'r1', r1, aBigint);
  checkArgument('interpretProgram()', 'options', options, optional(anObject));
  const vm = programInterpreter(verified, layout, memory, options);
  vm.reset(r1);
  return vm;
}

/** An interpreter of a verified program, for one execution after the other: each begins with reset(). */
export function programInterpreter(
  verified: VerifiedProgram,
  layout: MemoryLayout,
  memory: WebAssembly.Memory,
  options: InterpretOptions = {},
): Interpreter {
  const { cpu = 0, imports = {} } = options;
  const block = percpuBlock(layout, cpu);
  const maps =
    options.mapAt === undefined ? layout.maps.map(({ index }) => openMap(memory, layout, index)) : [];
  const mapOf = (at: number) => {
    if (options.mapAt !== undefined) {
      const map = options.mapAt(at);
      if (map === undefined) throw new BpfError('EINVAL', `no map at ${at}`);
      return { map, argument: map.address };
    }
    const index = layout.maps.findIndex((map) => map.address === at);
    if (index < 0) throw new BpfError('EINVAL', `no map at ${at}`);
    return { map: maps[index]!, argument: index };
  };
  const mapAt = (pointer: bigint) => mapOf(address(pointer));
  const ring = (pointer: bigint): RingBuffer => {
    const { map } = mapAt(pointer);
    if (!(map instanceof RingBuffer)) throw new BpfError('EINVAL', `map ${map.spec.name} is no ring buffer`);
    return map;
  };
  const imported = (kind: 'helper' | 'kfunc', name: string): ((...args: (number | bigint)[]) => unknown) => {
    const found = imports[kind]?.[name];
    if (found === undefined) throw new BpfError('EINVAL', `${kind}.${name} is not among the imports`);
    return found as unknown as (...args: (number | bigint)[]) => unknown;
  };
  const number = (result: unknown): number => result as number;

  const strncmp = (a: number, size: number, b: number): number => {
    const bytes = viewMemory(memory).u8;
    for (let n = 0; n < size; n++) {
      const left = bytes[a + n]!;
      const difference = left - bytes[b + n]!;
      if (difference !== 0) return difference;
      if (left === 0) break;
    }
    return 0;
  };

  const loop = (args: readonly bigint[]): bigint => {
    const count = BigInt.asUintN(32, args[0]!);
    if (args[3] !== 0n) return BigInt(-ERRNO.EINVAL);
    if (count > BigInt(isa.BPF_MAX_LOOPS)) return BigInt(-ERRNO.E2BIG);
    for (let n = 0n; n < count; n++) {
      if (vm.callback(Number(args[1]), [n, args[2]!]) !== 0n) return n + 1n;
    }
    return count;
  };

  const forEach = (args: readonly bigint[]): bigint => {
    if (args[3] !== 0n) return BigInt(-ERRNO.EINVAL);
    const { map } = mapAt(args[0]!);
    if (!(map instanceof HashMap) && !(map instanceof ArrayMap)) return BigInt(-ERRNO.EINVAL);
    // A key of its own for every nested call.
    const key = block.scratch + block.scratchSize - 8 * (isa.MAX_CALL_FRAMES + 1) + 8 * forEachDepth++;
    try {
      return forEachIn(map, key, args);
    } finally {
      forEachDepth--;
    }
  };

  let forEachDepth = 0;

  const forEachIn = (map: BpfMap, scratch: number, args: readonly bigint[]): bigint => {
    let done = 0n;
    for (const { key, value } of map.elements(cpu, scratch)) {
      done++;
      if (vm.callback(Number(args[1]), [args[0]!, BigInt(key), BigInt(value), args[2]!]) !== 0n) break;
    }
    return done;
  };

  const helper = (id: number, args: readonly bigint[]): bigint => {
    const proto = helperById(id) ?? kernelProto(id);
    if (proto === undefined) throw new BpfError('EINVAL', `unknown helper ${id}`);
    const [r1, r2, r3, r4] = args as [bigint, bigint, bigint, bigint];
    switch (proto.name) {
      case 'map_lookup_percpu_elem': {
        const other = address(r3);
        return other < layout.ncpu ? BigInt(mapAt(r1).map.lookupElem(address(r2), other)) : 0n;
      }
      case 'ringbuf_reserve':
        if (r3 !== 0n) return 0n;
        return BigInt(ring(r1).reserve(Number(r2), cpu));
      case 'ringbuf_submit':
      case 'ringbuf_discard': {
        // The record knows no map here; every ring commits alike.
        commitRecord(memory, address(r1), proto.name === 'ringbuf_discard');
        return 0n;
      }
      case 'ringbuf_output':
        if ((r4 & ~MAX_WAKEUP_FLAGS) !== 0n) return BigInt(-ERRNO.EINVAL);
        return BigInt(ring(r1).output(address(r2), Number(r3), cpu));
      case 'ringbuf_query':
        return BigInt(ring(r1).query(Number(r2)));
      case 'get_smp_processor_id':
        return BigInt(cpu);
      case 'loop':
        return loop(args);
      case 'for_each_map_elem':
        return forEach(args);
      case 'strncmp':
        return BigInt(strncmp(address(r1), address(r2), address(r3)));
      case 'ktime_get_ns':
      case 'ktime_get_boot_ns': {
        const since = Math.trunc(number(imported('helper', 'ktime_get_ns')()));
        return BigInt(since) + viewMemory(memory).data.getBigInt64(layout.clockBase, true);
      }
      case 'get_prandom_u32':
        return BigInt(number(imported('helper', proto.name)()) >>> 0);
      default: {
        const values = proto.wasm.params.map((type, n) => {
          if (proto.args[n] === 'const_map_ptr') return mapAt(args[n]!).argument;
          return type === 'i32' ? i32(args[n]!) : BigInt.asIntN(64, args[n]!);
        });
        const result = imported('helper', proto.name)(...values);
        if (proto.wasm.result === undefined) return 0n;
        return proto.wasm.result === 'i64' ? (result as bigint) : BigInt(number(result) >>> 0);
      }
    }
  };

  /** The map helpers, without a BigInt for each argument. */
  const quickHelper = (id: number, words: Int32Array): boolean => {
    let result: number;
    switch (id) {
      case isa.BPF_FUNC_map_lookup_elem:
        result = mapOf(words[2]! >>> 0).map.lookupElem(words[4]! >>> 0, cpu);
        words[0] = result;
        words[1] = 0;
        return true;
      case isa.BPF_FUNC_map_update_elem: {
        const flags = words[8]! >>> 0;
        const { map } = mapOf(words[2]! >>> 0);
        if (words[9] !== 0 || flags > 7) result = -ERRNO.EINVAL;
        else result = map.updateElem(words[4]! >>> 0, words[6]! >>> 0, flags, cpu);
        break;
      }
      case isa.BPF_FUNC_map_delete_elem:
        result = mapOf(words[2]! >>> 0).map.deleteElem(words[4]! >>> 0, cpu);
        break;
      default:
        return false;
    }
    words[0] = result;
    words[1] = result >> 31;
    return true;
  };

  const kfunc = (id: number, args: readonly bigint[]): bigint => {
    const decl = verified.kfuncsUsed.find((candidate) => candidate.id === id);
    if (decl === undefined) throw new BpfError('EINVAL', `unknown kfunc ${id}`);
    if (decl.inline === 'clz64') return leadingZeros(args[0]!);
    if (decl.name === 'bpf_throw') {
      vm.throw(args[0]!, verified.exceptionCallback);
      return 0n;
    }
    const values = decl.args.flatMap((arg, n) =>
      arg === 'u64' ? [i32(args[n]!), i32(args[n]! >> 32n)] : [i32(args[n]!)],
    );
    const result = imported('kfunc', decl.name)(...values);
    switch (decl.result) {
      case 's32':
        return BigInt(number(result) | 0);
      case 'f64':
        return BigInt(Math.trunc(number(result)));
      case 'slot64':
        return viewMemory(memory).data.getBigUint64(block.resultSlot, true);
      case 'void':
        return 0n;
    }
  };

  const arenaOf = (): InterpretedArena | undefined => {
    const slots = arenaAccesses(verified);
    if (verified.arena === undefined) return undefined;
    const { map, userStart } = verified.arena;
    const { address: at, geometry } = layout.maps[map]!;
    const arena = new ArenaMemory(memory, at + geometry.data);
    return {
      slots,
      userHigh: Number(BigInt.asIntN(32, userStart >> 32n)),
      whole: (from, bytes) => arena.whole(from, bytes),
      read: (from, bytes) => arena.read(from, bytes),
      write: (to, bytes) => arena.write(to, bytes),
    };
  };

  const vm = new Interpreter({
    insns: verified.insns,
    memory,
    arena: arenaOf(),
    probes: probedLoads(verified),
    stack: block.stack,
    mapAddress(index, off) {
      const map = layout.maps[index]!;
      return off === undefined ? map.address : map.address + map.geometry.data + off;
    },
    helper,
    quickHelper,
    kfunc,
    packetLoad(skb, offset, size) {
      const value = loadPacket(viewMemory(memory).data, address(skb), offset, size);
      return value === undefined ? undefined : BigInt(value);
    },
    tailCall([ctx, map, index]) {
      const program = imported('helper', 'tail_call');
      const ran = program(i32(ctx!), mapAt(map!).argument, BigInt.asIntN(64, index!));
      return ran === 1 ? viewMemory(memory).data.getBigUint64(block.resultSlot, true) : undefined;
    },
  });
  return vm;
}
