/** bpf_spin_lock, bpf_spin_unlock (process_spin_lock of kernel/bpf/verifier.c). */
import type { MapRecord, MapSpec, RecordField } from '../maps/map-spec.ts';
import type { Env } from './env.ts';
import { reject } from './error.ts';
import type { Reg } from './reg.ts';
import { invalidReg } from './reg-access.ts';
import { F_NON_OWN } from './reg-type.ts';
import { mapRegs } from './state.ts';

/** reg_btf_record */
export function recordOf(env: Env, reg: Reg): MapRecord | undefined {
  return reg.type === 'map_value' ? env.maps[reg.map]?.record : env.localRecord(reg.btfId);
}

/** Where special fields of what `reg` points to are. */
export function fieldOf(env: Env, reg: Reg, kinds: readonly string[]): RecordField | undefined {
  return recordOf(env, reg)?.fields.find((field) => kinds.includes(field.kind));
}

/** What a lock belongs to: a map's value, or an object. */
export const lockKey = (reg: Reg): string =>
  reg.type === 'map_value' ? `map ${reg.map}` : `object ${reg.btf?.isLocal === true}`;

/** Where special fields are is known by BTF only. */
export function checkHasBtf(spec: MapSpec, what: string): void {
  if (spec.record === undefined && !spec.valueTypeId)
    reject('EINVAL', `map '${spec.name}' has to have BTF in order to use ${what}`);
}

export function processSpinLock(env: Env, regno: number, isLock: boolean): void {
  const reg = env.frame.regs[regno]!;
  if (env.frame.callbackOf.startsWith('rbtree')) reject('EACCES', "can't spin_{lock,unlock} in rbtree cb");
  const name = isLock ? 'lock' : 'unlock';
  if (!reg.isConst) {
    reject(
      'EINVAL',
      `R${regno} doesn't have constant offset. bpf_spin_lock has to be at the constant offset`,
    );
  }
  const spec = env.maps[reg.map];
  const field = fieldOf(env, reg, ['spin_lock']);
  if (field === undefined) {
    if (spec !== undefined) checkHasBtf(spec, 'bpf_spin_lock');
    reject(
      'EINVAL',
      `${spec === undefined ? 'kptr' : 'map'} '${spec?.name ?? 'kptr'}' has no valid bpf_spin_lock`,
    );
  }
  const at = Number(reg.smin) + reg.off;
  if (at !== field.offset)
    reject('EINVAL', `off ${at} doesn't point to 'struct bpf_spin_lock' that is at ${field.offset}`);
  const { state } = env;
  if (isLock) {
    if (state.lock !== undefined) reject('EINVAL', 'Locking two bpf_spin_locks are not allowed');
    state.lock = { key: lockKey(reg), id: reg.id };
    return;
  }
  if (state.lock === undefined) reject('EINVAL', `bpf_spin_${name} without taking a lock`);
  if (state.lock.key !== lockKey(reg) || state.lock.id !== reg.id)
    reject('EINVAL', 'bpf_spin_unlock of different lock');
  state.lock = undefined;
  invalidateNonOwning(env);
}

/** invalidate_non_owning_refs: what was borrowed under the lock. */
export function invalidateNonOwning(env: Env): void {
  const gone = invalidReg(env);
  mapRegs(env.state, (reg) => ((reg.flags & F_NON_OWN) !== 0 ? gone : reg));
}
