import type { Btf } from './btf.ts';
import { BtfError } from './error.ts';
import { isComposite, isModifier, MAX_RESOLVE_DEPTH } from './kinds.ts';

export interface ResolverHooks {
  /** Called before a type is gone into for the sake of another: throws where it may not be. */
  enter(id: number, needed: number): void;
  /** Called for each type once, after all that it needs. */
  done(id: number): void;
}

type Mode = 'tbd' | 'ptr' | 'struct-or-array';

/**
 * Walks from types to those that they need, so that none needs itself (btf_resolve of kernel/bpf/btf.c). Pointers end the walk
 * through structs, structs the walk through pointers: `struct a { struct a *next; }` is fine, `struct a { struct a a; }` and a
 * pointer to itself are not.
 */
export class Resolver {
  readonly #btf: Btf;
  readonly #hooks: ResolverHooks;
  /** 0 not seen, 1 on the stack, 2 done. */
  readonly #states: Uint8Array;

  constructor(btf: Btf, hooks: ResolverHooks) {
    this.#btf = btf;
    this.#hooks = hooks;
    this.#states = new Uint8Array(btf.typeCount);
    this.#states.fill(2, 0, Math.max(1, btf.startId));
  }

  resolve(id: number): void {
    if (!this.#needsResolve(id) || this.#states[id] === 2) return;
    const stack: { id: number; next: number }[] = [];
    let mode: Mode = 'tbd';
    const push = (next: number): void => {
      if (stack.length === MAX_RESOLVE_DEPTH) {
        throw new BtfError(`${this.#btf.label(id)}: Exceeded max resolving depth:${MAX_RESOLVE_DEPTH}`, {
          typeId: id,
          errno: 'E2BIG',
        });
      }
      if (this.#states[next] === 1) {
        throw new BtfError(`${this.#btf.label(next)}: Loop detected`, { typeId: next, errno: 'EEXIST' });
      }
      this.#states[next] = 1;
      stack.push({ id: next, next: 0 });
      if (mode !== 'tbd') return;
      const kind = this.#btf.kindName(next);
      if (kind === 'PTR') mode = 'ptr';
      else if (kind === 'ARRAY' || isComposite(this.#btf.kind(next))) mode = 'struct-or-array';
    };
    push(id);
    while (stack.length > 0) {
      const top = stack.at(-1)!;
      const needed = this.#needed(top.id, top.next);
      if (needed === undefined) {
        stack.pop();
        this.#states[top.id] = 2;
        this.#hooks.done(top.id);
        continue;
      }
      top.next++;
      this.#hooks.enter(top.id, needed);
      if (!this.#isSink(needed, mode) && this.#states[needed] !== 2) push(needed);
    }
  }

  #needsResolve(id: number): boolean {
    const kind = this.#btf.kind(id);
    return (
      isModifier(kind) ||
      isComposite(kind) ||
      ['TYPEDEF', 'PTR', 'ARRAY', 'VAR', 'FUNC', 'DECL_TAG', 'DATASEC'].includes(this.#btf.kindName(id))
    );
  }

  /** The n-th type that a type needs, undefined after the last. */
  #needed(id: number, n: number): number | undefined {
    const btf = this.#btf;
    switch (btf.kindName(id)) {
      case 'STRUCT':
      case 'UNION':
        return n < btf.vlen(id) ? btf.memberType(id, n) : undefined;
      case 'DATASEC':
        return n < btf.vlen(id) ? btf.word(id, 3 + 3 * n) : undefined;
      case 'ARRAY':
        // The index first.
        return n === 0 ? btf.word(id, 4) : n === 1 ? btf.word(id, 3) : undefined;
      case 'FUNC':
        return undefined;
      default:
        return n === 0 ? btf.word(id, 2) : undefined;
    }
  }

  /** Whether the walk ends at a type (env_type_is_resolve_sink). */
  #isSink(id: number, mode: Mode): boolean {
    const kind = this.#btf.kind(id);
    const name = this.#btf.kindName(id);
    if (!this.#needsResolve(id)) return true;
    if (mode === 'tbd') return false;
    const modifier = isModifier(kind) || name === 'TYPEDEF';
    return mode === 'ptr' ? !modifier && name !== 'PTR' : !modifier && name !== 'ARRAY' && !isComposite(kind);
  }
}
