/** Resources that a program holds (acquire_reference_state, release_reference, check_reference_leak of kernel/bpf/verifier.c). */
import type { Env } from './env.ts';
import { reject } from './error.ts';
import { invalidReg } from './reg-access.ts';
import { mapRegs, type VerifierState } from './state.ts';

/** Gives the new resource's id. */
export function acquireReference(env: Env): number {
  const id = env.newId();
  const { state } = env;
  const callback = state.frame.isCallback ? state.frame.frameno : 0;
  state.refs = [...state.refs, { id, insn: env.insn, callback }];
  return id;
}

/** release_reference_state: false when it is not held. */
export function dropReference(state: VerifierState, id: number): boolean {
  if (!state.refs.some((ref) => ref.id === id)) return false;
  state.refs = state.refs.filter((ref) => ref.id !== id);
  return true;
}

/** release_reference: the resource, and with it every pointer into it. False when it is not held. */
export function releaseReference(env: Env, id: number): boolean {
  if (!dropReference(env.state, id)) return false;
  const gone = invalidReg(env);
  mapRegs(env.state, (reg) => (reg.refObjId === id ? gone : reg));
  return true;
}

/** check_reference_leak: what is still held, a line each; undefined for nothing. */
export function leakedReferences({ refs }: VerifierState): string | undefined {
  if (refs.length === 0) return undefined;
  return refs.map(({ id, insn }) => `Unreleased reference id=${id} alloc_insn=${insn}`).join('\n');
}

/** check_resource_leak of what ends a program or leaves the function: locks and sections that are still held. */
export function checkSections(env: Env, what: string): void {
  const { state } = env;
  if (state.lock !== undefined) reject('EINVAL', `${what} cannot be used inside bpf_spin_lock-ed region`);
  if (state.rcuLock) reject('EINVAL', `${what} cannot be used inside bpf_rcu_read_lock-ed region`);
  if (state.preemptLocks > 0) {
    reject('EINVAL', `${what} cannot be used inside bpf_preempt_disable-ed region`);
  }
}
