/** Regions of known size, map values with their special fields, and map pointers (check_mem_region_access, check_map_access). */
import { MAP_FLAG, type MapSpec, type RecordField } from '../maps/map-spec.ts';
import { type Access, MAX_VAR_OFF_BIG } from './access.ts';
import { checkBtfAccess, demandPerfmon } from './btf-access.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { fieldTypeName } from './field-names.ts';
import { pointer, type Reg, scalarConst } from './reg.ts';
import { S64_MIN } from './reg-bounds.ts';
import { F_ALLOC, F_PERCPU, F_RCU, F_TRUSTED, F_UNTRUSTED } from './reg-type.ts';

/** __check_mem_access */
export function fits(off: bigint, size: number, memSize: number, zeroAllowed: boolean): boolean {
  const sizeOk = size > 0 || (size === 0 && zeroAllowed);
  return off >= 0n && sizeOk && off + BigInt(size) <= BigInt(memSize);
}

function outsideText(reg: Reg, off: bigint, size: number, memSize: number): string {
  return reg.type === 'map_key'
    ? `invalid access to map key, key_size=${memSize} off=${off} size=${size}`
    : reg.type === 'map_value'
      ? `invalid access to map value, value_size=${memSize} off=${off} size=${size}`
      : `invalid access to memory, mem_size=${memSize} off=${off} size=${size}`;
}

function outside(reg: Reg, regno: number, off: bigint, size: number, memSize: number, which: string): never {
  reject(
    'EACCES',
    `${outsideText(reg, off, size, memSize)}\nR${regno} ${which} value is outside of the allowed memory range`,
  );
}

/** check_mem_region_access: both ends of the pointer's range are inside. */
export function checkRegion(
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  memSize: number,
  zeroAllowed: boolean,
): void {
  const at = BigInt(off);
  if (
    reg.smin < 0n &&
    (reg.smin === S64_MIN || reg.smin + at < 0n || reg.smin + at !== BigInt.asIntN(32, reg.smin + at))
  ) {
    reject(
      'EACCES',
      `R${regno} min value is negative, either use unsigned index or do a if (index >=0) check.`,
    );
  }
  if (!fits(reg.smin + at, size, memSize, zeroAllowed))
    outside(reg, regno, reg.smin + at, size, memSize, 'min');
  if (reg.umax >= MAX_VAR_OFF_BIG) {
    reject('EACCES', `R${regno} unbounded memory access, make sure to bounds check any such access`);
  }
  if (!fits(reg.umax + at, size, memSize, zeroAllowed))
    outside(reg, regno, reg.umax + at, size, memSize, 'max');
}

/** check_map_access_type: maps that programs may only read, or only write. */
export function checkMapAccessType(env: Env, reg: Reg, off: number, size: number, write: boolean): void {
  const { flags = 0, valueSize } = env.maps[reg.map]!;
  if (write && (flags & MAP_FLAG.BPF_F_RDONLY_PROG) !== 0) {
    reject('EACCES', `write into map forbidden, value_size=${valueSize} off=${off} size=${size}`);
  }
  if (!write && (flags & MAP_FLAG.BPF_F_WRONLY_PROG) !== 0) {
    reject('EACCES', `read from map forbidden, value_size=${valueSize} off=${off} size=${size}`);
  }
}

/** check_map_access: inside of the value, and none of its special fields. */
export function checkMapAccess(
  env: Env,
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  zeroAllowed: boolean,
  isHelper: boolean,
): void {
  const spec = env.maps[reg.map]!;
  checkRegion(reg, regno, off, size, spec.valueSize, zeroAllowed);
  if (spec.record === undefined) return;
  const from = reg.smin + BigInt(off);
  const end = reg.umax + BigInt(off + size);
  for (const field of spec.record.fields) {
    if (from >= BigInt(field.offset + field.size) || end <= BigInt(field.offset)) continue;
    if (/^(kptr|uptr)/.test(field.kind)) {
      if (isHelper) reject('EACCES', `${fieldTypeName(field.kind)} cannot be accessed indirectly by helper`);
      if (!reg.isConst) reject('EACCES', 'kptr access cannot have variable offset');
      if (BigInt(field.offset) !== reg.smin + BigInt(off)) {
        reject('EACCES', `kptr access misaligned expected=${field.offset} off=${reg.smin + BigInt(off)}`);
      }
      if (size !== 8) reject('EACCES', 'kptr access size must be BPF_DW');
      continue;
    }
    reject('EACCES', `${fieldTypeName(field.kind)} cannot be accessed directly by load/store`);
  }
}

/** Objects that RCU keeps while a section lasts (rcu_protected_types). */
const RCU_TYPES: ReadonlySet<string> = new Set(['cgroup', 'bpf_cpumask', 'task_struct', 'bpf_crypto_ctx']);

/** What a kptr field may point to: a structure of the kernel, or of the program. */
export function kptrTarget(env: Env, field: RecordField): { isLocal: boolean; typeId: number | undefined } {
  const known =
    field.record === undefined ? env.targetBtf?.btf.byName(field.typeName ?? '', 'STRUCT') : undefined;
  return { isLocal: known === undefined, typeId: known ?? field.typeId };
}

/** map_kptr_match_type */
export function checkKptrMatch(reg: Reg, regno: number, kind: string, typeName: string): void {
  const has = reg.btf === undefined ? '' : reg.btf.btf.name(reg.btfId);
  let allowed = F_TRUSTED | F_RCU;
  if (kind === 'kptr_unref') allowed |= F_UNTRUSTED;
  else allowed |= F_ALLOC | (kind === 'kptr_percpu' ? F_PERCPU : 0);
  if (reg.type === 'ptr_' && (reg.flags & ~allowed) === 0 && has === typeName) return;
  const or = kind === 'kptr_unref' ? ` or untrusted_ptr_${typeName}` : '';
  reject('EACCES', `invalid kptr access, R${regno} type=${reg.typeName}${has} expected=ptr_${typeName}${or}`);
}

/** check_map_kptr_access: a load of a kptr field gives its object, a store puts one there. */
export function mapKptr(env: Env, reg: Reg, access: Access, off: number): Reg | undefined {
  const field = env.maps[reg.map]!.record?.fields.find(
    (one) => /^kptr/.test(one.kind) && BigInt(one.offset) === reg.smin + BigInt(off),
  );
  if (field === undefined || access.size !== 8) return undefined;
  const { isLocal, typeId } = kptrTarget(env, field);
  if (access.write) {
    checkKptrStore(env, field.kind, field.typeName ?? '', access, field.offset);
    return undefined;
  }
  const result = pointer('ptr_');
  result.nullable = true;
  result.id = env.newId();
  const isSafe =
    field.kind === 'kptr_percpu' ||
    (field.kind === 'kptr_ref' && (isLocal || RCU_TYPES.has(field.typeName ?? '')));
  const inSection = env.state.rcuLock || !env.state.isSleepable;
  if (isSafe && inSection) {
    result.flags = F_RCU;
    if (field.kind === 'kptr_percpu') result.flags |= F_PERCPU;
    else if (isLocal) result.flags |= F_ALLOC;
  } else result.flags = F_UNTRUSTED;
  result.btf = isLocal ? env.localBtf : env.targetBtf;
  if (typeId === undefined || result.btf === undefined) return undefined;
  result.btfId = typeId;
  return result;
}

function checkKptrStore(env: Env, kind: string, typeName: string, access: Access, at: number): void {
  if (kind !== 'kptr_unref') reject('EACCES', 'store to referenced kptr disallowed');
  if (access.value < 0) {
    if (access.imm !== 0) reject('EACCES', `BPF_ST imm must be 0 when storing to kptr at off=${at}`);
    return;
  }
  const value = env.frame.regs[access.value]!;
  if (value.isNull) return;
  checkKptrMatch(value, access.value, kind, typeName);
}

/** bpf_map_is_rdonly, bpf_map_direct_read: constants in read-only data. */
export function frozenLoad(env: Env, reg: Reg, access: Access, off: number): Reg | undefined {
  const contents = env.input.frozen?.get(reg.map);
  const { flags = 0 } = env.maps[reg.map]!;
  if (contents === undefined || (flags & MAP_FLAG.BPF_F_RDONLY_PROG) === 0 || !reg.isConst) return undefined;
  const at = off + Number(reg.smin);
  let value = 0n;
  for (let i = access.size - 1; i >= 0; i--) value = (value << 8n) | BigInt(contents[at + i] ?? 0);
  const loaded = scalarConst(value);
  return access.isSigned === true ? loaded.signExtend(access.size) : loaded;
}

/** The structures behind map pointers (map_btf_id of their `struct bpf_map_ops`). */
const MAP_STRUCTS: Readonly<Record<string, string>> = {
  hash: 'bpf_htab',
  percpu_hash: 'bpf_htab',
  lru_hash: 'bpf_htab',
  lru_percpu_hash: 'bpf_htab',
  hash_of_maps: 'bpf_htab',
  lpm_trie: 'lpm_trie',
  ringbuf: 'bpf_ringbuf_map',
  user_ringbuf: 'bpf_ringbuf_map',
  stack_trace: 'bpf_stack_map',
  queue: 'bpf_queue_stack',
  stack: 'bpf_queue_stack',
  bloom_filter: 'bpf_bloom_filter',
  struct_ops: 'bpf_struct_ops_map',
  sockmap: 'bpf_stab',
  sockhash: 'bpf_shtab',
  arena: 'bpf_arena',
  devmap: 'bpf_dtab',
  devmap_hash: 'bpf_dtab',
  cpumap: 'bpf_cpu_map',
  xskmap: 'xsk_map',
  cgroup_storage: 'bpf_cgroup_storage_map',
};
const mapStruct = ({ type }: MapSpec): string =>
  MAP_STRUCTS[type] ?? (/storage$/.test(type) ? 'bpf_local_storage_map' : 'bpf_array');

/** check_ptr_to_map_access: reads of `struct bpf_map`, which the target's BTF describes. */
export function checkMapPointerAccess(
  env: Env,
  reg: Reg,
  regno: number,
  off: number,
  size: number,
  write: boolean,
): Reg | undefined {
  const name = mapStruct(env.maps[reg.map]!);
  demandPerfmon(env, name);
  if (off < 0) reject('EACCES', `R${regno} is ${name} invalid negative access: off=${off}`);
  if (write) reject('EACCES', `only read from ${name} is supported`);
  const id = env.targetBtf?.btf.byName(name, 'STRUCT');
  if (id === undefined)
    return reject('EINVAL', `R${regno} reads struct ${name}, of which nothing is known without target BTF`);
  const object = pointer('ptr_');
  object.btf = env.targetBtf;
  object.btfId = id;
  return checkBtfAccess(env, object, regno, off, size, false);
}
