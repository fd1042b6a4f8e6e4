/**
 * Names as V8 gives them: a function's own `name`, else what the parser infers from where the function is assigned
 * (v8/src/parsing/func-name-inferrer.cc); `Class.` in front of methods as stack traces show it
 * (v8/src/objects/call-site-info.cc, AppendMethodCall).
 */

import type { IdentifierNode, Node } from './symbols-parse.ts';
import type { Binding } from './types.ts';

/**
 * Where an expression's value goes. `path` is the chain of names that lead there, as written and without `this`
 * (`exports.obj.inner`, `Cart.prototype`); '' where there is none.
 */
export interface Place {
  readonly path: string;
  readonly binding: Binding;
  /** Offset of the identifier that gives the path's last name, -1 if there is none. */
  readonly at: number;
  /** Of a class's field: offset of the class's identifier, -1 if there is none. */
  readonly classAt?: number;
}

export const NO_BINDING: Binding = { via: 'none' };
export const NOWHERE: Place = { path: '', binding: NO_BINDING, at: -1 };

const IDENTIFIER = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*$/u;

/** `a.b.c` of a member expression; `this` is left out, computed parts are `<computed>`; '' if it starts with a call. */
export function memberPath(node: Node): string {
  switch (node.type) {
    case 'Identifier':
      return (node as IdentifierNode).name;
    case 'ThisExpression':
    case 'Super':
      return '';
    case 'MemberExpression': {
      const object = memberPath(node['object'] as Node);
      const key = propertyKey(node['property'] as Node, node['computed'] as boolean);
      return object === '' ? key : `${object}.${key}`;
    }
    case 'ParenthesizedExpression':
    case 'ChainExpression':
      return memberPath(node['expression'] as Node);
    default:
      return '';
  }
}

/** A property's key as V8 names a function after it: `size`, `#size`, `[Symbol.iterator]`, `<computed>`. */
export function propertyKey(key: Node, computed: boolean): string {
  if (key.type === 'PrivateIdentifier') return `#${key['name'] as string}`;
  if (key.type === 'Literal') return String(key['value']);
  if (!computed) return (key as IdentifierNode).name;
  if (key.type === 'TemplateLiteral') {
    const quasis = key['quasis'] as readonly { value: { cooked: string } }[];
    if (quasis.length === 1) return quasis[0]!.value.cooked;
  }
  if (key.type === 'MemberExpression') {
    const path = memberPath(key);
    if (path.startsWith('Symbol.') && !path.includes('<')) return `[${path}]`;
  }
  return '<computed>';
}

/** The inferred name for a path: V8 drops `prototype`. */
export function inferredName(path: string): string {
  if (!path.includes('prototype')) return path;
  return path
    .split('.')
    .filter((part) => part !== 'prototype')
    .join('.');
}

/** `Cart.total`; private, symbol and quoted names go without their class, as in V8's stack traces. */
export function methodName(className: string, key: string): string {
  return className !== '' && IDENTIFIER.test(key) ? `${className}.${key}` : key;
}

/**
 * The names of a script's variables that hold esbuild's helper for names (`keepNames`, which tsx sets):
 * `(f, name) => defineProperty(f, 'name', { value: name, configurable: true })`.
 */
export function namingHelpers(source: string): ReadonlySet<string> {
  const names = new Set<string>();
  for (const [, name] of source.matchAll(NAMING_HELPER)) names.add(name!);
  return names;
}

const NAMING_HELPER =
  /(?<![\w$.])([\w$]+)\s*=\s*\(([\w$]+),\s*([\w$]+)\)\s*=>\s*[\w$.]+\(\2,\s*["']name["'],\s*\{\s*value(?::\s*\3)?,\s*configurable:\s*(?:true|!0)\s*\}\)/g;

/** Of a call that names its first argument, that and the name. `isHelper` tells of the function that is called. */
export function namedValue(
  call: Node,
  isHelper: (name: string) => boolean,
): { readonly value: Node; readonly name: string } | undefined {
  const callee = call['callee'] as Node;
  const [value, name, ...more] = call['arguments'] as readonly Node[];
  if (callee.type !== 'Identifier' || name?.type !== 'Literal' || more.length > 0) return undefined;
  const text = name['value'];
  if (value === undefined || typeof text !== 'string' || text === '') return undefined;
  return isHelper((callee as IdentifierNode).name) ? { value, name: text } : undefined;
}

/** The place that `left = value` puts a value. */
export function assignmentPlace(left: Node, outer: Place): Place {
  if (left.type === 'Identifier') {
    const name = (left as IdentifierNode).name;
    return {
      path: name,
      binding: { via: 'variable', name, constant: false, topLevel: false },
      at: left.start,
    };
  }
  if (left.type !== 'MemberExpression') return NOWHERE;
  const own = memberPath(left);
  // `a.b = a.c = function () {}` is a.b.a.c to V8, but of two plain variables in a row the first one goes
  const path = outer.path.includes('.') ? `${outer.path}.${own}` : own;
  const object = left['object'] as Node;
  const at = (left['property'] as Node).start;
  const key = propertyKey(left['property'] as Node, left['computed'] as boolean);
  if (key.startsWith('<') || key.startsWith('[') || object.type === 'ThisExpression') {
    return { path, binding: NO_BINDING, at };
  }
  const holder = startsAtVariable(object) ? memberPath(object) : '';
  if (holder === '' || holder.includes('<') || holder.includes('[')) return { path, binding: NO_BINDING, at };
  return { path, binding: propertyBinding(holder, key, undefined), at };
}

/** Whether a member expression's path begins with a name: `this.a`, `f().a` do not. */
function startsAtVariable(node: Node): boolean {
  let inner = node;
  while (inner.type === 'MemberExpression') inner = inner['object'] as Node;
  return inner.type === 'Identifier';
}

/** The expression that leads to what is bound so; '' where there is none. */
export function holderOf(binding: Binding): string {
  if (binding.via === 'variable') return binding.name;
  if (binding.via === 'none' || binding.className === undefined || binding.accessor !== undefined) return '';
  return `${binding.className}${binding.isStatic ? '' : '.prototype'}.${binding.key}`;
}

/** The binding of `key` on the object that the path `holder` names. */
export function propertyBinding(holder: string, key: string, accessor: 'get' | 'set' | undefined): Binding {
  const onPrototype = holder.endsWith('.prototype');
  return {
    via: 'property',
    key,
    isStatic: holder !== '' && !onPrototype,
    className: holder === '' ? undefined : onPrototype ? holder.slice(0, -'.prototype'.length) : holder,
    private: key.startsWith('#'),
    accessor,
  };
}
