// What the simulated kernel knows of its types: kernel-types.json.gz, made by scripts/golden-types.mjs from a kernel's BTF.

import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

let loaded;
function data() {
  const file = new URL('kernel-types.json.gz', import.meta.url);
  loaded ??= JSON.parse(gunzipSync(readFileSync(file)).toString());
  return loaded;
}

function params(list) {
  return Array.from({ length: list.length / 2 }, (_, n) => ({ name: list[2 * n], type: list[2 * n + 1] }));
}

/** A function's parameters and what it returns; undefined where nothing is known of it. */
export function functionTypes(name) {
  if (!Object.hasOwn(data().functions, name)) return undefined;
  const [returnType, ...list] = data().functions[name];
  return { params: params(list), returnType };
}

/** What a tracepoint's probes are called with; undefined where there is no such tracepoint. */
export function tracepointParams(name) {
  return Object.hasOwn(data().tracepoints, name) ? params(data().tracepoints[name]) : undefined;
}

/** Which struct `#12` is: TraceArch.lookupType(). */
export function lookupType(name) {
  const struct = name.startsWith('#') ? data().structs[Number(name.slice(1))] : undefined;
  if (struct === undefined) return undefined;
  const [size, ...members] = struct;
  return {
    kind: 'struct',
    size,
    members: members.map(([member, type, bitOffset, bitSize]) => ({
      name: member,
      type,
      bitOffset,
      ...(bitSize === undefined ? {} : { bitSize }),
      ...(member === '' ? { members: lookupType(type)?.members ?? [] } : {}),
    })),
  };
}
