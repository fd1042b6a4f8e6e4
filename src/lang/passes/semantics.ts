/** What the passes find out about a script: side tables over its tree, read by the code generator. */
import type * as ast from '../ast.ts';
import type { AttachPoint, ProbeTarget, ScriptConfig } from '../script.ts';
import type { LType } from '../types.ts';

export interface VarInfo {
  readonly name: string;
  type: LType;
}

export interface MapInfo {
  readonly name: string;
  readonly first: ast.MapAccess;
  /** Types of the key's parts; empty without a key, undefined while nothing is known. */
  key: readonly LType[] | undefined;
  value: LType;
}

/** Attach points that share one program, with the numbers of the arguments that args.NAME means in all of them. */
export interface ProbeGroup {
  readonly attach: readonly { readonly point: AttachPoint; readonly targets: readonly ProbeTarget[] }[];
  readonly params: ReadonlyMap<string, number>;
  /** Of an event's fields: the property of that argument that they are. */
  readonly paths?: ReadonlyMap<string, readonly (string | number)[]>;
}

export interface ProbeInfo {
  readonly probe: ast.Probe;
  readonly points: readonly AttachPoint[];
  readonly groups: readonly ProbeGroup[];
}

export interface Semantics {
  readonly script: ast.Script;
  readonly config: ScriptConfig;
  readonly probes: readonly ProbeInfo[];
  readonly maps: ReadonlyMap<string, MapInfo>;
  readonly types: ReadonlyMap<ast.Expr, LType>;
  readonly vars: ReadonlyMap<ast.Variable, VarInfo>;
}
