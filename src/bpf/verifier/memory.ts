/**
 * Loads, stores and memory given to helpers (check_mem_access, check_helper_mem_access of kernel/bpf/verifier.c).
 */
import * as isa from '../isa.ts';
import { mayAccessPacket } from '../prog-types/index.ts';
import { FLOW_KEYS_SIZE } from '../prog-types/skb.ts';
import { sockAccess, sockCommonAccess, tcpSockAccess, xdpSockAccess } from '../prog-types/sockets.ts';
import type { Access } from './access.ts';
import { checkBtfAccess } from './btf-access.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import {
  checkMapAccess,
  checkMapAccessType,
  checkMapPointerAccess,
  checkRegion,
  fits,
  frozenLoad,
  mapKptr,
} from './map-access.ts';
import { isPacket, LOADED, pointer, type Reg, UNKNOWN } from './reg.ts';
import { checkWritable, isPointerValue, setReg } from './reg-access.ts';
import { F_RDONLY } from './reg-type.ts';
import { readStack, stackBounds, writeStack } from './stack.ts';
import { tnumAdd, tnumConst, tnumIsAligned, tnumString } from './tnum.ts';
import type { MemoryKind } from './types.ts';

export type { Access, AccessSize } from './access.ts';
export { MAX_VAR_OFF } from './access.ts';

/** NET_IP_ALIGN: Ethernet headers are 14 bytes. */
const NET_IP_ALIGN = 2;

/** How messages name unaligned memory. */
const ALIGNED_NAMES: Readonly<Partial<Record<Reg['type'], string>>> = {
  fp: 'stack ',
  map_value: 'value ',
  map_key: 'key ',
  ctx: 'context ',
  flow_keys: 'flow keys ',
  sock: 'sock ',
  sock_common: 'sock_common ',
  tcp_sock: 'tcp_sock ',
  xdp_sock: 'xdp_sock ',
};

/** check_ptr_alignment */
export function checkAlignment(
  env: Env,
  reg: Reg,
  { off, size, aligned }: Pick<Access, 'off' | 'size' | 'aligned'>,
): void {
  if (reg.type === 'arena') return;
  // The stack is tracked by slots: accesses have to be aligned always.
  const strict = reg.type === 'fp' || aligned === true || env.strictAlignment;
  if (!strict || size === 1) return;
  if (isPacket(reg)) {
    const whole = tnumAdd(reg.varOff, tnumConst(BigInt(NET_IP_ALIGN + reg.off + off)));
    if (tnumIsAligned(whole, size)) return;
    reject(
      'EACCES',
      `misaligned packet access off ${NET_IP_ALIGN}+${tnumString(reg.varOff)}+${reg.off}+${off} size ${size}`,
    );
  }
  const whole = tnumAdd(reg.varOff, tnumConst(BigInt(reg.off + off)));
  if (tnumIsAligned(whole, size)) return;
  const what = ALIGNED_NAMES[reg.type] ?? '';
  reject('EACCES', `misaligned ${what}access off ${tnumString(reg.varOff)}+${reg.off}+${off} size ${size}`);
}

/** The value a load leaves in its register. */
function loaded({ size, isSigned }: Pick<Access, 'size' | 'isSigned'>): Reg {
  return isSigned === true ? UNKNOWN.copy().signExtend(size) : LOADED[size];
}

function checkLeak(env: Env, { write, value }: Access, where: string): void {
  if (write && value >= 0 && isPointerValue(env, env.frame.regs[value]!)) {
    reject('EACCES', `R${value} leaks addr into ${where}`);
  }
}

/** check_mem_access. A load sets the register `value`. */
export function checkMemAccess(env: Env, access: Access): void {
  const { regno, size, write, value } = access;
  const reg = env.frame.regs[regno]!;
  checkAlignment(env, reg, access);
  const off = access.off + reg.off;
  if (reg.nullable) reject('EACCES', `R${regno} invalid mem access '${reg.typeName}'`);
  let result: Reg | undefined;
  switch (reg.type) {
    case 'map_value':
      checkLeak(env, access, 'map');
      checkMapAccessType(env, reg, off, size, write);
      checkMapAccess(env, reg, regno, off, size, false, false);
      result = mapKptr(env, reg, access, off);
      if (!write && result?.isPointer !== true) result = frozenLoad(env, reg, access, off);
      break;
    case 'map_key':
      if (write) reject('EACCES', `write to change key R${regno} not allowed`);
      checkRegion(reg, regno, off, size, env.maps[reg.map]!.keySize, false);
      break;
    case 'mem':
      if (write && (reg.flags & F_RDONLY) !== 0)
        reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkLeak(env, access, 'mem');
      checkRegion(reg, regno, off, size, reg.memSize, false);
      break;
    case 'ctx':
      checkLeak(env, access, 'ctx');
      result = checkCtxAccess(env, reg, access);
      break;
    case 'fp':
      stackBounds(env, reg, regno, off, size, false, write);
      if (write) writeStack(env, reg, off, access);
      else readStack(env, reg, off, access);
      return;
    case 'pkt':
    case 'pkt_meta':
      if (write && !mayAccessPacket(env.input.type, true)) reject('EACCES', 'cannot write into packet');
      checkLeak(env, access, 'packet');
      checkPacketAccess(reg, regno, off, size, false);
      if (write) env.seenDirectWrite = true;
      break;
    case 'flow_keys':
      checkLeak(env, access, 'flow keys');
      if (off < 0 || off + size > FLOW_KEYS_SIZE)
        reject('EACCES', `invalid access to flow keys off=${off} size=${size}`);
      break;
    case 'sock':
    case 'sock_common':
    case 'tcp_sock':
    case 'xdp_sock':
      if (write) reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkSockAccess(reg, regno, off, size);
      break;
    case 'tp_buffer':
      checkBuffer(reg, regno, off, size, 'tracepoint');
      break;
    case 'buf':
      if (write && (reg.flags & F_RDONLY) !== 0)
        reject('EACCES', `R${regno} cannot write into ${reg.typeName}`);
      checkBuffer(reg, regno, off, size, (reg.flags & F_RDONLY) !== 0 ? 'rdonly' : 'rdwr');
      break;
    case 'ptr_':
      result = checkBtfAccess(env, reg, regno, off, size, write);
      break;
    case 'map_ptr':
      result = checkMapPointerAccess(env, reg, regno, off, size, write);
      break;
    case 'arena':
      break;
    default:
      reject('EACCES', `R${regno} invalid mem access '${reg.typeName}'`);
  }
  if (!write && value >= 0) setReg(env, value, result === undefined ? loaded(access) : result);
}

/** check_ptr_off_reg: pointers that have to be as they were given; with `fixedOk` a known offset is fine. */
export function checkPlainPointer(reg: Reg, regno: number, fixedOk = false): void {
  if (reg.off < 0)
    reject('EACCES', `negative offset ${reg.typeName} ptr R${regno} off=${reg.off} disallowed`);
  if (reg.off !== 0 && !fixedOk)
    reject('EACCES', `dereference of modified ${reg.typeName} ptr R${regno} off=${reg.off} disallowed`);
  if (!reg.isConst || reg.varOff.value !== 0n) {
    reject('EACCES', `variable ${reg.typeName} access var_off=${tnumString(reg.varOff)} disallowed`);
  }
}

/** __mark_reg_s32_range */
function within([min, max]: readonly [number, number]): Reg {
  const reg = UNKNOWN.copy();
  reg.s32min = min;
  reg.s32max = max;
  reg.smin = BigInt(min);
  reg.smax = BigInt(max);
  return reg.sync();
}

export function checkCtxAccess(env: Env, reg: Reg, access: Access): Reg | undefined {
  const { regno, off, size, write, isSigned } = access;
  checkPlainPointer(reg, regno, env.input.type === 'syscall');
  const { ctx } = env;
  const at = off + reg.off;
  const inside = at >= 0 && at + size <= ctx.size;
  const field = inside ? ctx.access(at, size, write) : undefined;
  const isPointer = field !== undefined && field !== 'scalar' && field.type !== 'scalar';
  if (field === undefined || (isPointer && isSigned === true)) {
    reject('EACCES', `invalid bpf_context access off=${at} size=${size}`);
  }
  if (write) return undefined;
  env.ctxReads.add(at);
  if (field === 'scalar') return undefined;
  if (field.type === 'scalar') return field.range === undefined ? undefined : within(field.range);
  const result = pointer(field.type);
  result.nullable = field.nullable ?? false;
  result.flags = field.flags ?? 0;
  if (result.nullable) result.id = env.newId();
  if (field.type === 'ptr_') {
    result.btf = env.targetBtf;
    const id =
      field.btfId ??
      (field.struct === undefined ? undefined : env.targetBtf?.btf.byName(field.struct, 'STRUCT'));
    if (id === undefined) return undefined;
    result.btfId = id;
  }
  result.memSize = field.memSize ?? 0;
  return result;
}

/** Kinds of pointers that one instruction may not mix with others (reg_type_mismatch). */
const KINDS: readonly MemoryKind[] = [
  'plain',
  'plain',
  'ctx',
  'sock',
  'sock',
  'sock',
  'sock',
  'ptr_',
  'arena',
];
const KIND_OF: Readonly<Partial<Record<Reg['type'], number>>> = {
  ctx: 2,
  sock: 3,
  sock_common: 4,
  tcp_sock: 5,
  xdp_sock: 6,
  ptr_: 7,
  arena: 8,
};

/** A load or store is converted by the kind of its pointer, so it has to be of one kind on all paths. */
export function checkPointerKind(env: Env, reg: Reg): void {
  const kind = KIND_OF[reg.type] ?? 1;
  const before = env.pointerKind[env.insn]!;
  if (before !== 0 && before !== kind) reject('EINVAL', 'same insn cannot be used with different pointers');
  env.pointerKind[env.insn] = kind;
}

export const memoryKind = (kind: number): MemoryKind => KINDS[kind]!;

/** check_packet_access */
export function checkPacketAccess(
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  zeroAllowed: boolean,
): void {
  if (reg.smin < 0n) {
    reject(
      'EACCES',
      `R${regno} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  }
  const text = `R${regno} offset is outside of the packet`;
  if (reg.range < 0) reject('EINVAL', text);
  if (!fits(BigInt(off), size, reg.range, zeroAllowed)) {
    reject(
      'EACCES',
      `invalid access to packet, off=${off} size=${size}, R${regno}(id=${reg.id},off=${off},r=${reg.range})\n${text}`,
    );
  }
}

const SOCK_ACCESS = {
  sock: sockAccess,
  sock_common: sockCommonAccess,
  tcp_sock: tcpSockAccess,
  xdp_sock: xdpSockAccess,
} as const;

/** check_sock_access */
function checkSockAccess(reg: Reg, regno: number, off: number, size: number): void {
  if (reg.smin < 0n) {
    reject(
      'EACCES',
      `R${regno} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  }
  const valid = SOCK_ACCESS[reg.type as keyof typeof SOCK_ACCESS](off, size, false);
  if (valid === undefined)
    reject('EACCES', `R${regno} invalid ${reg.typeName} access off=${off} size=${size}`);
}

/** __check_buffer_access; the size is checked when the program is attached. */
export function checkBuffer(reg: Reg, regno: number, off: number, size: number, name: string): void {
  if (off < 0) reject('EACCES', `R${regno} invalid ${name} buffer access: off=${off}, size=${size}`);
  if (!reg.isConst || reg.varOff.value !== 0n) {
    reject(
      'EACCES',
      `R${regno} invalid variable buffer offset: off=${off}, var_off=${tnumString(reg.varOff)}`,
    );
  }
}

/** atomic_ptr_type_ok */
export function checkAtomicPointer(reg: Reg, regno: number, what: 'stores into' | 'loads from'): void {
  const isRefused =
    reg.type === 'ctx' || isPacket(reg) || reg.type === 'flow_keys' || KIND_OF[reg.type]! >= 3;
  if (isRefused && reg.type !== 'ptr_' && reg.type !== 'arena')
    reject('EACCES', `BPF_ATOMIC ${what} R${regno} ${reg.typeName} is not allowed`);
}

/** check_atomic: the load sees what is there before the store, also for the precision of a spilled value. */
export function checkAtomic(env: Env, insn: isa.Insn): void {
  const size = isa.sizeBytes(insn.code);
  const { frame } = env;
  const reg = frame.regs[insn.dst]!;
  const isExchange = insn.imm === isa.BPF_CMPXCHG;
  if (isExchange && isPointerValue(env, frame.regs[0]!)) reject('EACCES', 'R0 leaks addr into mem');
  if (isPointerValue(env, frame.regs[insn.src]!)) reject('EACCES', `R${insn.src} leaks addr into mem`);
  checkAtomicPointer(reg, insn.dst, 'stores into');
  const value = isExchange ? 0 : (insn.imm & isa.BPF_FETCH) !== 0 ? insn.src : -1;
  if (value >= 0) checkWritable(value);
  const access = { regno: insn.dst, off: insn.off, size, aligned: true };
  checkMemAccess(env, { ...access, write: false, value: -1 });
  if (value >= 0) checkMemAccess(env, { ...access, write: false, value });
  if (value !== insn.dst) {
    checkMemAccess(env, { ...access, write: true, value: -1 });
    return;
  }
  // The address register was loaded into; the store is to where it pointed.
  const after = frame.regs[value]!;
  frame.regs[value] = reg;
  checkMemAccess(env, { ...access, write: true, value: -1 });
  frame.regs[value] = after;
}
