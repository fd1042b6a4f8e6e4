/** Contexts of programs that are attached to a typed target: its arguments (btf_ctx_access of kernel/bpf/btf.c). */
import type { Btf } from '../btf/btf.ts';
import { type ContextAccess, type CtxResult, contextOf } from '../prog-types/index.ts';
import { TRACING_CTX_SIZE } from '../prog-types/tracing.ts';
import { skipModifiers } from './btf-types.ts';
import { lsmResultRange } from './lsm.ts';
import { mayBeError, mayBeNull } from './raw-tracepoints.ts';
import { F_PERCPU, F_RCU, F_RDONLY, F_TRUSTED, F_USER } from './reg-type.ts';
import type { ProgramInput } from './types.ts';

/** FUNC_PROTO of what a program is attached to; raw tracepoints have a leading `void *__data`. */
export function attachedProto(input: ProgramInput): { proto: number; skip: number } | undefined {
  const { targetBtf: btf, attachTo, attachType, type } = input;
  if (btf === undefined || attachTo === undefined) return undefined;
  if (attachType === 'trace_raw_tp') {
    const id = btf.byName(`btf_trace_${attachTo}`, 'TYPEDEF');
    if (id === undefined) return undefined;
    const ptr = btf.type(skipModifiers(btf, id));
    return ptr.kind === 'PTR' ? { proto: ptr.type, skip: 1 } : undefined;
  }
  const prefix = type === 'lsm' ? 'bpf_lsm_' : attachType === 'trace_iter' ? 'bpf_iter_' : '';
  const id = btf.byName(prefix + attachTo, 'FUNC');
  const func = id === undefined ? undefined : btf.type(id);
  return func?.kind === 'FUNC' ? { proto: func.type, skip: 0 } : undefined;
}

const INTEGERS: ReadonlySet<string> = new Set(['INT', 'ENUM', 'ENUM64']);

const isPointerType = (btf: Btf, typeId: number): boolean =>
  btf.type(skipModifiers(btf, typeId)).kind === 'PTR';

function argumentOf(btf: Btf, typeId: number, isTrusted: boolean, nullable: boolean): CtxResult {
  const shape = btf.type(skipModifiers(btf, typeId));
  if (INTEGERS.has(shape.kind) || shape.kind === 'STRUCT') return 'scalar';
  if (shape.kind !== 'PTR') return undefined;
  if (shape.type === 0) return 'scalar';
  const tags: string[] = [];
  const pointee = skipModifiers(btf, shape.type, tags);
  const target = btf.type(pointee);
  if (target.kind === 'INT' || target.kind === 'UNKN') return 'scalar';
  if (target.kind !== 'STRUCT' && target.kind !== 'UNION') return undefined;
  let flags = isTrusted ? F_TRUSTED : 0;
  for (const tag of tags)
    flags |= tag === 'user' ? F_USER : tag === 'percpu' ? F_PERCPU : tag === 'rcu' ? F_RCU : 0;
  return { type: 'ptr_', btfId: pointee, flags, nullable };
}

/** LSM hooks whose objects are about to go, or not made yet (untrusted_lsm_hooks of kernel/bpf/bpf_lsm.c). */
const UNTRUSTED_HOOKS: ReadonlySet<string> = new Set([
  'bpf_map_free',
  'bpf_prog_free',
  'file_alloc_security',
  'file_free_security',
  'sk_alloc_security',
  'sk_free_security',
  'task_free',
]);

/** Arguments of an iterator that are bytes of a size that is known once it is attached (ctx_arg_info, PTR_TO_BUF): by their number. */
const ITERATOR_BUFFERS: Readonly<Record<string, Readonly<Record<number, CtxResult>>>> = {
  bpf_map_elem: {
    2: { type: 'buf', nullable: true, flags: F_RDONLY },
    3: { type: 'buf', nullable: true },
  },
  bpf_sk_storage_map: { 3: { type: 'buf', nullable: true } },
  sockmap: { 2: { type: 'buf', nullable: true, flags: F_RDONLY } },
};

/** Words of the context are the target's arguments, and behind them what it returned where that is known. */
export function programContext(input: ProgramInput, isPrivileged: boolean): ContextAccess {
  const builtin = contextOf(input.type, input.attachType, isPrivileged);
  if (input.type !== 'tracing' && input.type !== 'lsm') return builtin;
  const { targetBtf: btf, attachType } = input;
  const found = attachedProto(input);
  if (btf === undefined || found === undefined) return builtin;
  const proto = btf.type(found.proto);
  if (proto.kind !== 'FUNC_PROTO') return builtin;
  const params = proto.params.slice(found.skip);
  const isTrusted =
    attachType === 'trace_raw_tp' ||
    attachType === 'trace_iter' ||
    (attachType === 'lsm_mac' && !UNTRUSTED_HOOKS.has(input.attachTo ?? ''));
  return {
    size: TRACING_CTX_SIZE,
    access(off, size, write) {
      if (write || off < 0 || off % size !== 0 || off % 8 !== 0) return undefined;
      const n = off / 8;
      const param = params[n];
      const { attachTo = '' } = input;
      // Pointers come whole, whatever they point to.
      if (param !== undefined && size !== 8 && isPointerType(btf, param.type)) return undefined;
      if (param !== undefined) {
        if (attachType === 'trace_raw_tp') {
          const given = argumentOf(btf, param.type, isTrusted, mayBeNull(attachTo, n));
          return typeof given === 'object' && mayBeError(attachTo, n) ? 'scalar' : given;
        }
        const buffer = attachType === 'trace_iter' ? ITERATOR_BUFFERS[attachTo]?.[n] : undefined;
        if (buffer !== undefined) return buffer;
        const nullable = attachType === 'trace_iter' && n > 0;
        return argumentOf(btf, param.type, isTrusted, nullable);
      }
      if (n > params.length) return undefined;
      const hasResult =
        attachType === 'trace_fexit' || attachType === 'modify_return' || attachType === 'lsm_mac';
      if (!hasResult) return undefined;
      const result = argumentOf(btf, proto.type, false, false);
      const range = attachType === 'lsm_mac' ? lsmResultRange(input, found.proto) : undefined;
      return result === 'scalar' && range !== undefined ? { type: 'scalar', range } : result;
    },
  };
}
