/**
 * What the kernel demands of BTF before it takes it (btf_check_all_metas and btf_check_all_types of kernel/bpf/btf.c): each
 * type by itself first, then what it refers to.
 */

import { aBtf } from '../argument-shapes.ts';
import { checkArgument } from '../arguments.ts';
import type { Btf } from './btf.ts';
import { Resolver } from './resolve.ts';
import { MetaChecker } from './validate-meta.ts';
import { ReferenceChecker } from './validate-references.ts';

/**
 * Throws BtfError where the kernel would refuse to load the BTF: with the type's id, what is wrong with it as the kernel's
 * log says it, and its errno. Compilers' output passes only once its sections of variables have sizes, as libbpf fills them
 * in; a base is taken to be valid.
 */
export function validateBtf(btf: Btf): void {
  checkArgument('validateBtf()', 'btf', btf, aBtf);
  const first = Math.max(1, btf.startId);
  const metas = new MetaChecker(btf);
  for (let id = first; id < btf.typeCount; id++) metas.check(id);
  const references = new ReferenceChecker(btf);
  const resolver = new Resolver(btf, {
    enter: (id, needed) => references.enter(id, needed),
    done: (id) => references.references(id),
  });
  for (let id = first; id < btf.typeCount; id++) {
    resolver.resolve(id);
    if (btf.kindName(id) === 'FUNC_PROTO') references.funcProto(id);
  }
  references.typeTags(first);
}
