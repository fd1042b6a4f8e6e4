import * as k from './kinds.ts';

/** Calls `visit` with each word of a type that holds a type's id (btf_field_iter of libbpf, BTF_FIELD_ITER_IDS). */
export function forEachTypeWord(kind: number, vlen: number, visit: (word: number) => void): void {
  switch (kind) {
    case k.BTF_KIND_PTR:
    case k.BTF_KIND_TYPEDEF:
    case k.BTF_KIND_VOLATILE:
    case k.BTF_KIND_CONST:
    case k.BTF_KIND_RESTRICT:
    case k.BTF_KIND_FUNC:
    case k.BTF_KIND_VAR:
    case k.BTF_KIND_DECL_TAG:
    case k.BTF_KIND_TYPE_TAG:
      visit(2);
      break;
    case k.BTF_KIND_ARRAY:
      visit(3);
      visit(4);
      break;
    case k.BTF_KIND_STRUCT:
    case k.BTF_KIND_UNION:
      for (let m = 0; m < vlen; m++) visit(4 + 3 * m);
      break;
    case k.BTF_KIND_FUNC_PROTO:
      visit(2);
      for (let p = 0; p < vlen; p++) visit(4 + 2 * p);
      break;
    case k.BTF_KIND_DATASEC:
      for (let v = 0; v < vlen; v++) visit(3 + 3 * v);
      break;
    default:
      break;
  }
}

/** Calls `visit` with each word of a type that holds a string's offset. */
export function forEachNameWord(kind: number, vlen: number, visit: (word: number) => void): void {
  visit(0);
  const each = k.TRAILING_WORDS[kind]!.each;
  if (each === 0 || kind === k.BTF_KIND_DATASEC) return;
  for (let i = 0; i < vlen; i++) visit(3 + each * i);
}

/** Words of a type. */
export function wordCount(kind: number, vlen: number): number {
  const { fixed, each } = k.TRAILING_WORDS[kind]!;
  return 3 + fixed + each * vlen;
}

/** Whether a word of a type, from its third on, is one that forEachTypeWord visits. */
export function isTypeWord(kind: number, word: number): boolean {
  switch (kind) {
    case k.BTF_KIND_INT:
    case k.BTF_KIND_ENUM:
    case k.BTF_KIND_ENUM64:
    case k.BTF_KIND_FWD:
    case k.BTF_KIND_FLOAT:
      return false;
    case k.BTF_KIND_ARRAY:
      return word === 3 || word === 4;
    case k.BTF_KIND_STRUCT:
    case k.BTF_KIND_UNION:
      return word % 3 === 1 && word > 3;
    case k.BTF_KIND_FUNC_PROTO:
      return word % 2 === 0;
    case k.BTF_KIND_DATASEC:
      return word % 3 === 0;
    default:
      return word === 2;
  }
}
