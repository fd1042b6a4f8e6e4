/** The functions of a script: names, kinds, parameters, where a site goes, how each is bound. */

import {
  assignmentPlace,
  holderOf,
  inferredName,
  methodName,
  NO_BINDING,
  NOWHERE,
  namedValue,
  namingHelpers,
  type Place,
  propertyBinding,
  propertyKey,
} from './names.ts';
import { outline } from './outline.ts';
import { LineTable } from './symbols-lines.ts';
import {
  childFields,
  entryOffset,
  type FunctionNode,
  type IdentifierNode,
  isNode,
  type Node,
  ParseFailure,
  parseScript,
} from './symbols-parse.ts';
import { scriptPath } from './symbols-path.ts';
import type { Binding, FunctionKind, FunctionSymbol, ScriptInfo } from './types.ts';

export interface ScriptSymbols {
  readonly symbols: FunctionSymbol[];
  /** By function: offset of the identifier that its name ends in, -1 if there is none. For source maps. */
  readonly nameOffsets: readonly number[];
  /** By function: offset of its class's identifier, -1 if there is none. */
  readonly classOffsets: readonly number[];
  /** Of all functions' parameters, one after the other: offset of the name, -1 for a pattern. */
  readonly paramOffsets: readonly number[];
  /** Why there are none: the text is not JavaScript that the parser knows. */
  readonly failure: string | undefined;
}

const NO_SYMBOLS = { symbols: [], nameOffsets: [], classOffsets: [], paramOffsets: [] };

/** Every function of a script in order of appearance; none if the text cannot be parsed (see scanFunctions). */
export function functionSymbols(script: ScriptInfo, source: string, baseAddress: bigint): FunctionSymbol[] {
  return scanFunctions(script, source, baseAddress).symbols;
}

/**
 * As functionSymbols, with the reason when the text cannot be parsed. A function's address is the script's base plus the
 * function's offset.
 */
export function scanFunctions(script: ScriptInfo, source: string, baseAddress: bigint): ScriptSymbols {
  let program = outline(source, script.isModule);
  if (program !== undefined) return scanProgram(program, script, source, baseAddress);
  try {
    program = parseScript(source, script.isModule).program;
  } catch (error) {
    const failure = error instanceof ParseFailure ? error.message : String(error);
    return { ...NO_SYMBOLS, failure };
  }
  return scanProgram(program, script, source, baseAddress);
}

/** The functions of a tree that was parsed already. */
export function scanProgram(
  program: Node,
  script: ScriptInfo,
  source: string,
  baseAddress: bigint,
): ScriptSymbols {
  const scanner = new Scanner(script, source, baseAddress);
  try {
    scanner.children(program, -1);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { ...NO_SYMBOLS, failure: 'nested too deeply' };
  }
  const { symbols, nameOffsets, classOffsets, paramOffsets } = scanner;
  return { symbols, nameOffsets, classOffsets, paramOffsets, failure: undefined };
}

interface Member {
  readonly name: string;
  readonly nameAt: number;
  readonly classAt: number;
  readonly start: number;
  readonly isStatic: boolean;
  readonly kind: 'method' | 'getter' | 'setter' | 'constructor' | 'derived-constructor';
  readonly binding: Binding;
}

class Scanner {
  readonly symbols: FunctionSymbol[] = [];
  readonly nameOffsets: number[] = [];
  readonly classOffsets: number[] = [];
  readonly paramOffsets: number[] = [];
  readonly #scriptId: string;
  readonly #file: string;
  readonly #base: bigint;
  readonly #lines: LineTable;
  readonly #source: string;
  #named: ReadonlySet<string> | undefined;
  /** Nesting of blocks that are not a function's body. */
  #blocks = 0;

  constructor(script: ScriptInfo, source: string, base: bigint) {
    this.#scriptId = script.scriptId;
    this.#file = scriptPath(script.url);
    this.#base = base;
    this.#lines = new LineTable(source);
    this.#source = source;
  }

  /** Looked for when a call may be of one. */
  get #helpers(): ReadonlySet<string> {
    this.#named ??= namingHelpers(this.#source);
    return this.#named;
  }

  children(node: Node, parent: number): void {
    for (const field of childFields(node)) {
      const value = node[field];
      if (value === null || typeof value !== 'object') continue;
      if (Array.isArray(value)) {
        for (const item of value) if (item !== null) this.#visit(item as Node, parent, NOWHERE);
      } else if (isNode(value)) this.#visit(value, parent, NOWHERE);
    }
  }

  /** `place` is where the node's value goes, if it is an expression. */
  #visit(node: Node, parent: number, place: Place): void {
    switch (node.type) {
      case 'Identifier':
      case 'Literal':
      case 'ThisExpression':
        return;
      case 'FunctionDeclaration': {
        const id = (node as FunctionNode).id;
        const name = id === null ? 'default' : id.name;
        const binding: Binding = id === null ? NO_BINDING : this.#variable(name, false, parent);
        this.#function(node as FunctionNode, parent, name, binding, id === null ? -1 : id.start, undefined);
        return;
      }
      case 'FunctionExpression':
      case 'ArrowFunctionExpression': {
        const fn = node as FunctionNode;
        const name = fn.id?.name ?? inferredName(place.path);
        const classAt = fn.id === null ? place.classAt : undefined;
        this.#function(fn, parent, name, place.binding, fn.id?.start ?? place.at, undefined, classAt);
        return;
      }
      case 'CallExpression': {
        const named = namedValue(node, (name) => this.#helpers.has(name));
        if (named === undefined) this.children(node, parent);
        else this.#visit(named.value, parent, this.#called(named.name, parent, place));
        return;
      }
      case 'ClassDeclaration':
      case 'ClassExpression':
        this.#class(node, parent, place);
        return;
      case 'ObjectExpression':
        for (const property of node['properties'] as readonly Node[]) this.#property(property, parent, place);
        return;
      case 'VariableDeclaration': {
        const constant = node['kind'] === 'const';
        for (const declarator of node['declarations'] as readonly Node[]) {
          const id = declarator['id'] as Node;
          const init = declarator['init'] as Node | null;
          if (id.type === 'Identifier') {
            const name = (id as IdentifierNode).name;
            if (init !== null) {
              const binding = this.#variable(name, constant, parent);
              this.#visit(init, parent, { path: name, binding, at: id.start });
            }
          } else {
            this.#visit(id, parent, NOWHERE);
            if (init !== null) this.#visit(init, parent, NOWHERE);
          }
        }
        return;
      }
      case 'AssignmentPattern': {
        const left = node['left'] as Node;
        this.#visit(left, parent, NOWHERE);
        const path = left.type === 'Identifier' ? (left as IdentifierNode).name : '';
        this.#visit(node['right'] as Node, parent, { path, binding: NO_BINDING, at: left.start });
        return;
      }
      case 'AssignmentExpression': {
        const left = node['left'] as Node;
        const operator = node['operator'] as string;
        this.#visit(left, parent, NOWHERE);
        const plain = operator === '=' || operator === '??=' || operator === '||=' || operator === '&&=';
        const to = plain ? assignmentPlace(left, place) : NOWHERE;
        const binding = to.binding.via === 'variable' ? this.#variable(to.path, false, parent) : to.binding;
        this.#visit(node['right'] as Node, parent, { path: to.path, binding, at: to.at });
        return;
      }
      case 'ConditionalExpression':
        this.#visit(node['test'] as Node, parent, NOWHERE);
        this.#visit(node['consequent'] as Node, parent, place);
        this.#visit(node['alternate'] as Node, parent, place);
        return;
      case 'LogicalExpression':
        this.#visit(node['left'] as Node, parent, place);
        this.#visit(node['right'] as Node, parent, place);
        return;
      case 'ParenthesizedExpression':
        this.#visit(node['expression'] as Node, parent, place);
        return;
      case 'ArrayExpression':
        for (const element of node['elements'] as readonly (Node | null)[]) {
          if (element !== null) this.#visit(element, parent, { ...place, binding: NO_BINDING });
        }
        return;
      case 'ExportDefaultDeclaration':
        this.#visit(node['declaration'] as Node, parent, { path: 'default', binding: NO_BINDING, at: -1 });
        return;
      case 'BlockStatement':
      case 'ForStatement':
      case 'ForInStatement':
      case 'ForOfStatement':
      case 'SwitchStatement':
      case 'StaticBlock':
        this.#blocks++;
        this.children(node, parent);
        this.#blocks--;
        return;
      default:
        this.children(node, parent);
    }
  }

  /** Where a value goes that a helper has given a name: what is inside of functions may be called as the helper is. */
  #called(name: string, parent: number, place: Place): Place {
    const here = parent === -1 && this.#blocks === 0;
    const path = place.path === name || place.path.endsWith(`.${name}`) ? place.path : name;
    return { ...place, path, binding: here ? place.binding : NO_BINDING };
  }

  #variable(name: string, constant: boolean, parent: number): Binding {
    return { via: 'variable', name, constant, topLevel: parent === -1 && this.#blocks === 0 };
  }

  /** One property of an object literal that goes to `place`. */
  #property(property: Node, parent: number, place: Place): void {
    if (property.type !== 'Property') {
      this.#visit(property, parent, NOWHERE);
      return;
    }
    const computed = property['computed'] as boolean;
    const keyNode = property['key'] as Node;
    const value = property['value'] as Node;
    if (computed) this.#visit(keyNode, parent, NOWHERE);
    if (property['shorthand'] === true) return;
    const key = propertyKey(keyNode, computed);
    const onPrototype = place.path.endsWith('.prototype');
    const kind = property['kind'] as 'init' | 'get' | 'set';
    const accessor = kind === 'init' ? undefined : kind;
    const known = !key.startsWith('<') && !key.startsWith('[');
    const binding = known ? propertyBinding(holderOf(place.binding), key, accessor) : NO_BINDING;
    const direct = value.type === 'FunctionExpression' || value.type === 'ArrowFunctionExpression';
    // A literal that becomes a prototype shows its class in stack traces; others show `Object`, which says nothing.
    const name =
      kind !== 'init' ? `${kind} ${key}` : onPrototype ? methodName(inferredName(place.path), key) : key;
    if (direct && (kind !== 'init' || property['method'] === true)) {
      const member: Member = {
        name,
        nameAt: keyNode.start,
        classAt: -1,
        start: property.start,
        isStatic: false,
        kind: kind === 'get' ? 'getter' : kind === 'set' ? 'setter' : 'method',
        binding,
      };
      this.#function(value as FunctionNode, parent, name, binding, keyNode.start, member);
    } else if (direct) {
      const fn = value as FunctionNode;
      this.#function(fn, parent, fn.id?.name ?? name, binding, fn.id?.start ?? keyNode.start, undefined);
    } else {
      const path = place.path === '' ? key : `${place.path}.${key}`;
      this.#visit(value, parent, { path, binding, at: keyNode.start });
    }
  }

  #class(node: Node, parent: number, place: Place): void {
    const id = node['id'] as IdentifierNode | null;
    const own = id?.name ?? inferredName(node.type === 'ClassDeclaration' ? 'default' : place.path);
    // The expression that reaches the class, for rebinding: a class expression's own name is not visible outside.
    const reach = node.type === 'ClassDeclaration' ? id?.name : holderOf(place.binding) || id?.name;
    const derived = node['superClass'] !== null;
    const classAt = id?.start ?? (node.type === 'ClassDeclaration' ? -1 : place.at);
    if (derived) this.#visit(node['superClass'] as Node, parent, NOWHERE);
    for (const element of (node['body'] as Node)['body'] as readonly Node[]) {
      if (element.type === 'StaticBlock') {
        this.#visit(element, parent, NOWHERE);
        continue;
      }
      const computed = element['computed'] as boolean;
      const keyNode = element['key'] as Node;
      const value = element['value'] as Node | null;
      if (computed) this.#visit(keyNode, parent, NOWHERE);
      if (value === null) continue;
      const key = propertyKey(keyNode, computed);
      const isStatic = element['static'] as boolean;
      const known = !key.startsWith('<') && !key.startsWith('[');
      if (element.type === 'PropertyDefinition') {
        // An instance field is every instance's own: there is no one place to replace it.
        const binding: Binding =
          isStatic && known
            ? {
                via: 'property',
                key,
                isStatic,
                className: reach,
                private: key.startsWith('#'),
                accessor: undefined,
              }
            : NO_BINDING;
        this.#visit(value, parent, { path: methodName(own, key), binding, at: keyNode.start, classAt });
        continue;
      }
      const kind = element['kind'] as 'method' | 'get' | 'set' | 'constructor';
      const accessor = kind === 'get' || kind === 'set' ? kind : undefined;
      const binding: Binding =
        !known || kind === 'constructor'
          ? kind === 'constructor' && reach !== undefined && node.type === 'ClassDeclaration'
            ? this.#variable(reach, false, parent)
            : kind === 'constructor'
              ? place.binding
              : NO_BINDING
          : { via: 'property', key, isStatic, className: reach, private: key.startsWith('#'), accessor };
      const member: Member = {
        name: kind === 'constructor' ? `new ${own}` : accessor ? `${accessor} ${key}` : methodName(own, key),
        start: element.start,
        nameAt: kind === 'constructor' ? classAt : keyNode.start,
        classAt: kind === 'constructor' ? -1 : classAt,
        isStatic,
        kind:
          kind === 'constructor'
            ? derived
              ? 'derived-constructor'
              : 'constructor'
            : accessor
              ? accessor === 'get'
                ? 'getter'
                : 'setter'
              : 'method',
        binding,
      };
      this.#function(value as FunctionNode, parent, member.name, binding, member.nameAt, member);
    }
  }

  #function(
    fn: FunctionNode,
    parent: number,
    name: string,
    binding: Binding,
    nameAt: number,
    member: Member | undefined,
    classAt = member?.classAt ?? -1,
  ): void {
    const { params, body } = fn;
    const isArrow = fn.type === 'ArrowFunctionExpression';
    const start = member?.start ?? fn.start;
    const names: (string | undefined)[] = [];
    let simpleParams = true;
    for (const param of params) {
      if (param.type !== 'Identifier') simpleParams = false;
      const named = param.type === 'AssignmentPattern' ? (param['left'] as Node) : param;
      const known = named.type === 'Identifier';
      names.push(known ? (named as IdentifierNode).name : undefined);
      this.paramOffsets.push(known ? named.start : -1);
    }
    const index = this.symbols.length;
    const at = this.#lines.position(start);
    const endsAt = this.#lines.position(fn.end);
    this.nameOffsets.push(nameAt);
    this.classOffsets.push(classAt);
    this.symbols.push({
      scriptId: this.#scriptId,
      index,
      name,
      file: this.#file,
      line: at.line + 1,
      column: at.column + 1,
      endLine: endsAt.line + 1,
      endColumn: endsAt.column + 1,
      kind: functionKind(fn, member),
      isAsync: fn.async,
      isGenerator: fn.generator,
      isArrow,
      isStatic: member?.isStatic ?? false,
      params: names,
      simpleParams,
      start,
      end: fn.end,
      bodyStart: body.start,
      bodyEnd: body.end,
      expressionBody: body.type !== 'BlockStatement',
      entry: body.type === 'BlockStatement' ? entryOffset(body) : body.start,
      binding,
      parent,
      address: this.#base + BigInt(start),
    });
    const blocks = this.#blocks;
    this.#blocks = 0;
    for (const param of params) if (param.type !== 'Identifier') this.#visit(param, index, NOWHERE);
    if (body.type === 'BlockStatement') {
      for (const statement of body['body'] as readonly Node[]) this.#visit(statement, index, NOWHERE);
    } else this.#visit(body, index, NOWHERE);
    this.#blocks = blocks;
  }
}

function functionKind(fn: FunctionNode, member: Member | undefined): FunctionKind {
  if (fn.generator) return fn.async ? 'async-generator' : 'generator';
  if (fn.type === 'ArrowFunctionExpression') return fn.async ? 'async-arrow' : 'arrow';
  if (member !== undefined) return fn.async ? 'async-method' : member.kind;
  return fn.async ? 'async' : 'function';
}
