import { expect, test } from 'vitest';
import { TraplineError } from '../../src/errors.ts';
import { compileScript, formatErrors, ScriptError } from '../../src/lang/index.ts';

/** What the user reads, whole. The script has one parameter, `abc`; a function has the parameters req, res and name. */
function diagnose(source: string): string {
  try {
    compileScript(source, {
      file: 'stdin',
      params: ['abc'],
      resolver: {
        resolve({ target }) {
          if (target === 'nothing') return [];
          if (target === 'server.js:handel') {
            throw new TraplineError('ENOENT', `No function matches ${target}`, {
              hint: 'did you mean server.js:handle?',
            });
          }
          return [{ name: target, params: ['req', 'res', 'name'] }];
        },
      },
    });
    return 'no error';
  } catch (error) {
    if (!(error instanceof ScriptError)) throw error;
    return formatErrors(error);
  }
}

const CASES: readonly string[] = [
  'kprobe:f { @x = nsec; }',
  `
stdin:1:17: ERROR: Unknown identifier: 'nsec'
kprobe:f { @x = nsec; }
                ~~~~
HINT: did you mean nsecs?`,
  'kprobe:f { @x = arg0 }}',
  `
stdin:1:23: ERROR: syntax error, unexpected }, expecting a probe
kprobe:f { @x = arg0 }}
                      ~
HINT: such as: kprobe:server.js:handle { @ = count(); }`,
  'kprobe:f { printff("x"); }',
  `
stdin:1:12: ERROR: Unknown function: 'printff'
kprobe:f { printff("x"); }
           ~~~~~~~
HINT: did you mean printf?`,
  'kprob:f { }',
  `
stdin:1:1: ERROR: Invalid probe type: kprob
kprob:f { }
~~~~~
HINT: did you mean kprobe?`,
  'server.js:handle { }',
  `
stdin:1:1: ERROR: Invalid probe type: server.js
server.js:handle { }
~~~~~~~~~
HINT: did you mean kprobe:server.js:handle?`,
  'kprobe:f { @ = quantize(arg0); }',
  `
stdin:1:16: ERROR: Unknown function: 'quantize'
kprobe:f { @ = quantize(arg0); }
               ~~~~~~~~
HINT: functions are avg buf clear count delete exit has_key hist id kstack len lhist max min nsecs print printf reg stats str strcontains strftime strncmp sum system time ustack zero`,
  'uprobe:f { }',
  `
stdin:1:1: ERROR: Invalid probe type: uprobe
uprobe:f { }
~~~~~~
HINT: JavaScript functions are kprobes: kprobe:FILE:FUNCTION`,
  'kprobe { }',
  `
stdin:1:1: ERROR: kprobe probe type requires a function
kprobe { }
~~~~~~
HINT: such as kprobe:server.js:handle`,
  'BEGIN:x { }',
  `
stdin:1:1: ERROR: BEGIN probes should not have a target
BEGIN:x { }
~~~~~~~`,
  'interval:s { }',
  `
stdin:1:1: ERROR: interval probe needs a unit (us, ms, s or hz) and a positive number
interval:s { }
~~~~~~~~~~
HINT: such as interval:s:1`,
  'interval:fortnight:1 { }',
  `
stdin:1:1: ERROR: interval probe needs a unit (us, ms, s or hz) and a positive number
interval:fortnight:1 { }
~~~~~~~~~~~~~~~~~~~~
HINT: such as interval:s:1`,
  'profile:hz:0 { }',
  `
stdin:1:1: ERROR: profile probe needs a unit (us, ms, s or hz) and a positive number
profile:hz:0 { }
~~~~~~~~~~~~
HINT: such as profile:hz:99`,
  'profile:hz:1001 { }',
  `
stdin:1:1: ERROR: profile takes at most 1000 samples a second
profile:hz:1001 { }
~~~~~~~~~~~~~~~
HINT: such as profile:hz:999`,
  'interval:s:2147484 { }',
  `
stdin:1:1: ERROR: interval: a period is at most 2147483 seconds
interval:s:2147484 { }
~~~~~~~~~~~~~~~~~~`,
  'kprobe:nothing { }',
  `
stdin:1:8: ERROR: No function matches kprobe:nothing
kprobe:nothing { }
       ~~~~~~~`,
  'kprobe:server.js:handel { }',
  `
stdin:1:8: ERROR: No function matches server.js:handel
kprobe:server.js:handel { }
       ~~~~~~~~~~~~~~~~
HINT: did you mean server.js:handle?`,
  'kprobe:f { print(args.rq); }',
  `
stdin:1:23: ERROR: f does not have a parameter named 'rq'
kprobe:f { print(args.rq); }
                      ~~
HINT: did you mean args.req?`,
  'kprobe:f { print(req); }',
  `
stdin:1:18: ERROR: Unknown identifier: 'req'
kprobe:f { print(req); }
                 ~~~
HINT: did you mean args.req?`,
  'kprobe:f { print(args); }',
  `
stdin:1:18: ERROR: args needs the name of a parameter
kprobe:f { print(args); }
                 ~~~~
HINT: such as args.req`,
  'kprobe:f { print(@cuont); @count = count(); }',
  `
stdin:1:18: ERROR: Undefined map: @cuont
kprobe:f { print(@cuont); @count = count(); }
                 ~~~~~~
HINT: did you mean @count?`,
  'kprobe:f { print($x); }',
  `
stdin:1:18: ERROR: Undefined or undeclared variable: $x
kprobe:f { print($x); }
                 ~~`,
  'kprobe:f { $value = 1; print($vlaue); }',
  `
stdin:1:30: ERROR: Undefined or undeclared variable: $vlaue
kprobe:f { $value = 1; print($vlaue); }
                             ~~~~~~
HINT: did you mean $value?`,
  'kprobe:f { if (arg0) { $x = 1; } print($x); }',
  `
stdin:1:40: ERROR: Undefined or undeclared variable: $x
kprobe:f { if (arg0) { $x = 1; } print($x); }
                                       ~~`,
  'kprobe:f { @x = 1; @x = "a"; }',
  `
stdin:1:20: ERROR: Type mismatch for @x: trying to assign value of type 'string' when map already contains a value of type 'int64'
kprobe:f { @x = 1; @x = "a"; }
                   ~~`,
  'kprobe:f { @x[1] = 1; @x["a"] = 1; }',
  `
stdin:1:23: ERROR: Argument mismatch for @x: trying to access with arguments: 'string' when map expects arguments: 'int64'
kprobe:f { @x[1] = 1; @x["a"] = 1; }
                      ~~~~~~~`,
  'kprobe:f { @x[1] = 1; @x = 1; }',
  `
stdin:1:23: ERROR: @x used as a map without an explicit key (scalar map), previously used with an explicit key (non-scalar map)
kprobe:f { @x[1] = 1; @x = 1; }
                      ~~`,
  'kprobe:f { @x = 1; @x[1] = 1; }',
  `
stdin:1:20: ERROR: @x used as a map with an explicit key (non-scalar map), previously used without an explicit key (scalar map)
kprobe:f { @x = 1; @x[1] = 1; }
                   ~~~~~`,
  'kprobe:f { @x = count(); @x = sum(arg0); }',
  `
stdin:1:26: ERROR: Type mismatch for @x: trying to assign value of type 'sum_t' when map already contains a value of type 'count_t'
kprobe:f { @x = count(); @x = sum(arg0); }
                         ~~`,
  'kprobe:f { @x = count(); @x++; }',
  `
stdin:1:26: ERROR: The ++ operator can not be used on expressions of type 'count_t'
kprobe:f { @x = count(); @x++; }
                         ~~`,
  'kprobe:f { @x = hist(arg0); @y = @x; }',
  `
stdin:1:34: ERROR: Map value 'hist_t' cannot be assigned from one map to another.
kprobe:f { @x = hist(arg0); @y = @x; }
                                 ~~`,
  'kprobe:f { @x = count(); @y = @x; }',
  `
stdin:1:31: ERROR: Map value 'count_t' cannot be assigned from one map to another. The function that returns this type must be called directly e.g. \`@y = count(…);\`.
kprobe:f { @x = count(); @y = @x; }
                              ~~
HINT: a copy of the number is (int64)@x`,
  'kprobe:f { count(); }',
  `
stdin:1:12: ERROR: count() should be assigned to a map
kprobe:f { count(); }
           ~~~~~~~
HINT: @x = count()`,
  'kprobe:f { $x = count(); }',
  `
stdin:1:17: ERROR: count() should be assigned to a map
kprobe:f { $x = count(); }
                ~~~~~~~
HINT: @x = count()`,
  'kprobe:f { @x = printf("a"); }',
  `
stdin:1:17: ERROR: printf() should not be used in an expression
kprobe:f { @x = printf("a"); }
                ~~~~~~~~~~~
HINT: it is a statement of its own: printf("format", …)`,
  'kprobe:f { @x = count(1); }',
  `
stdin:1:17: ERROR: count() requires no arguments (1 provided)
kprobe:f { @x = count(1); }
                ~~~~~~~~
HINT: @x = count()`,
  'kprobe:f { @x = lhist(1, 2); }',
  `
stdin:1:17: ERROR: lhist() requires 4 arguments (2 provided)
kprobe:f { @x = lhist(1, 2); }
                ~~~~~~~~~~~
HINT: @x = lhist(value, min, max, step)`,
  'kprobe:f { @x = lhist(arg0, 10, 0, 1); }',
  `
stdin:1:17: ERROR: lhist() max must be greater than min (10 and 0 provided)
kprobe:f { @x = lhist(arg0, 10, 0, 1); }
                ~~~~~~~~~~~~~~~~~~~~~`,
  'kprobe:f { @x = lhist(arg0, 0, 10000, 1); }',
  `
stdin:1:17: ERROR: lhist() too many buckets, must be <= 1000 (would need 10000)
kprobe:f { @x = lhist(arg0, 0, 10000, 1); }
                ~~~~~~~~~~~~~~~~~~~~~~~~`,
  'kprobe:f { @x = hist(arg0, 9); }',
  `
stdin:1:28: ERROR: hist(): the second argument must be from 0 to 5
kprobe:f { @x = hist(arg0, 9); }
                           ~`,
  'kprobe:f { printf("%d"); }',
  `
stdin:1:12: ERROR: printf: Not enough arguments for format string (1 expected, 0 found)
kprobe:f { printf("%d"); }
           ~~~~~~~~~~~~`,
  'kprobe:f { printf("%d %d", 1, 2, 3); }',
  `
stdin:1:12: ERROR: printf: Too many arguments for format string (2 expected, 3 found)
kprobe:f { printf("%d %d", 1, 2, 3); }
           ~~~~~~~~~~~~~~~~~~~~~~~~`,
  'kprobe:f { printf("%d", str(arg0)); }',
  `
stdin:1:25: ERROR: printf: %d specifier expects a value of type int (string supplied)
kprobe:f { printf("%d", str(arg0)); }
                        ~~~~~~~~~`,
  'kprobe:f { printf("%s", 1); }',
  `
stdin:1:25: ERROR: printf: %s specifier expects a value of type string (int64 supplied)
kprobe:f { printf("%s", 1); }
                        ~`,
  'kprobe:f { printf("%y", 1); }',
  `
stdin:1:19: ERROR: printf: unknown format specifier '%y'
kprobe:f { printf("%y", 1); }
                  ~~~~
HINT: such as %d %u %x %s %c %p %r; %% is a percent sign`,
  'kprobe:f { printf(arg0); }',
  `
stdin:1:19: ERROR: printf() expects a string literal as its first argument
kprobe:f { printf(arg0); }
                  ~~~~`,
  'kprobe:f { print(retval); }',
  `
stdin:1:18: ERROR: The retval builtin can only be used with "kretprobe", "settle" probes, not kprobe
kprobe:f { print(retval); }
                 ~~~~~~`,
  'kretprobe:f, kprobe:f { print(error); }',
  `
stdin:1:31: ERROR: The error builtin can only be used with "kretprobe", "throw", "settle" probes, not kprobe
kretprobe:f, kprobe:f { print(error); }
                              ~~~~~`,
  'BEGIN { print(arg0); }',
  `
stdin:1:15: ERROR: The arg0 builtin can only be used with "kprobe", "kretprobe", "throw", "settle", "rawtracepoint" probes, not BEGIN
BEGIN { print(arg0); }
              ~~~~`,
  'interval:s:1 { @[asyncid] = 1; }',
  `
stdin:1:18: ERROR: The asyncid builtin can only be used with "kprobe", "kretprobe", "throw", "settle", "profile", "tracepoint", "rawtracepoint" probes, not interval
interval:s:1 { @[asyncid] = 1; }
                 ~~~~~~~`,
  'kprobe:f { print(ctx); }',
  `
stdin:1:18: ERROR: The ctx builtin has no meaning here
kprobe:f { print(ctx); }
                 ~~~
HINT: the context is read by name: arg0, args.NAME, this, retval, error`,
  'kprobe:f { join(arg0); }',
  `
stdin:1:12: ERROR: The join function is not available here
kprobe:f { join(arg0); }
           ~~~~
HINT: there are no char ** arrays; print(arg0) shows an array`,
  'kprobe:f { print("a" + 1); }',
  `
stdin:1:22: ERROR: The + operator can not be used on expressions of types 'string', 'int64'
kprobe:f { print("a" + 1); }
                     ~`,
  'kprobe:f { print("a" < "b"); }',
  `
stdin:1:22: ERROR: The < operator can not be used on expressions of type 'string'
kprobe:f { print("a" < "b"); }
                     ~`,
  'kprobe:f { print(1 == "b"); }',
  `
stdin:1:20: ERROR: Type mismatch for '==': comparing 'int64' with 'string'
kprobe:f { print(1 == "b"); }
                   ~~`,
  'kprobe:f /func == "f"/ { }',
  `
stdin:1:16: ERROR: Type mismatch for '==': comparing 'func' with 'string'
kprobe:f /func == "f"/ { }
               ~~
HINT: name the function in the probe: kprobe:FILE:FUNC`,
  'kprobe:f { print(arg0[str(arg1)]); }',
  `
stdin:1:23: ERROR: A property can not be named by 'string'
kprobe:f { print(arg0[str(arg1)]); }
                      ~~~~~~~~~
HINT: a constant, a number or a value of the application: arg0["content-type"], arg0[$i], arg0[arg1]`,
  'kprobe:f { print(arg0[-1]); }',
  `
stdin:1:23: ERROR: A property can not be named by this number
kprobe:f { print(arg0[-1]); }
                      ~~
HINT: a constant, a number or a value of the application: arg0["content-type"], arg0[$i], arg0[arg1]`,
  'kprobe:f { print(str(arg0).x); }',
  `
stdin:1:18: ERROR: Can not access a property of type 'string'
kprobe:f { print(str(arg0).x); }
                 ~~~~~~~~~~~
HINT: take the property first: str(arg0.name)`,
  'kprobe:f { @x = arg0; print(@x.y); }',
  `
stdin:1:29: ERROR: Can not access a property of type 'value'
kprobe:f { @x = arg0; print(@x.y); }
                            ~~~~
HINT: what is kept in a map is a copy: take the property before, @x = arg0.name`,
  'kprobe:f { $t = (1, 2); print($t.2); }',
  `
stdin:1:34: ERROR: Invalid tuple index: 2. Found 2 elements in tuple.
kprobe:f { $t = (1, 2); print($t.2); }
                                 ~`,
  'kprobe:f { clear(@x[1]); @x[1] = 1; }',
  `
stdin:1:18: ERROR: The map passed to clear() should not be indexed by a key
kprobe:f { clear(@x[1]); @x[1] = 1; }
                 ~~~~~`,
  'kprobe:f { delete(@x); @x[1] = 1; }',
  `
stdin:1:19: ERROR: delete() expects a map key to be provided
kprobe:f { delete(@x); @x[1] = 1; }
                  ~~
HINT: clear(@x) deletes every entry`,
  'kprobe:f { break; }',
  `
stdin:1:12: ERROR: break statement not within a loop
kprobe:f { break; }
           ~~~~~`,
  'kprobe:f { unroll (200) { } }',
  `
stdin:1:20: ERROR: unroll maximum value is 100
kprobe:f { unroll (200) { } }
                   ~~~`,
  'kprobe:f { unroll (arg0) { } }',
  `
stdin:1:20: ERROR: unroll needs a constant number
kprobe:f { unroll (arg0) { } }
                   ~~~~`,
  'kprobe:f { for ($kv : @x) { } @x = 1; }',
  `
stdin:1:23: ERROR: @x has no explicit keys (scalar map), and cannot be used in a for loop
kprobe:f { for ($kv : @x) { } @x = 1; }
                      ~~`,
  'kprobe:f { $1++; }',
  `
stdin:1:12: ERROR: The ++ operator must be applied to a map or variable
kprobe:f { $1++; }
           ~~`,
  'kprobe:f { print($1 + 1); }',
  `
stdin:1:18: ERROR: $1 used numerically but given "abc". Try using str($1).
kprobe:f { print($1 + 1); }
                 ~~`,
  'kprobe:f { @x = 1 / 0; }',
  `
stdin:1:21: ERROR: Division by zero
kprobe:f { @x = 1 / 0; }
                    ~`,
  'kprobe:f { reg("dx1"); }',
  `
stdin:1:16: ERROR: 'dx1' is not a valid register on this architecture (x86_64)
kprobe:f { reg("dx1"); }
               ~~~~~
HINT: did you mean dx?`,
  'kprobe:f { print(arg0->x); }',
  `
stdin:1:22: ERROR: JavaScript has no pointers
kprobe:f { print(arg0->x); }
                     ~~
HINT: properties are read with a dot: arg0.name`,
  'kprobe:f { print(*arg0); }',
  `
stdin:1:18: ERROR: JavaScript has no pointers
kprobe:f { print(*arg0); }
                 ~
HINT: properties are read by name: arg0.name`,
  'struct x { int a; }',
  `
stdin:1:1: ERROR: C structs describe kernel memory; JavaScript objects are read by property: arg0.name
struct x { int a; }
~~~~~~`,
  'kprobe:f { print("abc); }',
  `
stdin:1:18: ERROR: unterminated string
kprobe:f { print("abc); }
                 ~~~~~~~~`,
  'kprobe:f { print(1x); }',
  `
stdin:1:18: ERROR: Invalid integer literal: 1x
kprobe:f { print(1x); }
                 ~~
HINT: such as 10, 0x1f, 1e6, 1_000, 50ms`,
  'kprobe:f { print(99999999999999999999); }',
  `
stdin:1:18: ERROR: Integer literal 99999999999999999999 is too large: it does not fit in 64 bits
kprobe:f { print(99999999999999999999); }
                 ~~~~~~~~~~~~~~~~~~~~`,
  'kprobe:f { print("\\q"); }',
  `
stdin:1:19: ERROR: invalid escape character '\\q'
kprobe:f { print("\\q"); }
                  ~~`,
  'kprobe:f { /* }',
  `
stdin:1:12: ERROR: end of file during comment
kprobe:f { /* }
           ~~`,
  'kprobe:f { print(€); }',
  `
stdin:1:18: ERROR: invalid character '€'
kprobe:f { print(€); }
                 ~`,
  'kprobe:f { arg0 = 1; }',
  `
stdin:1:12: ERROR: syntax error, unexpected =: only a map or a variable can be assigned to
kprobe:f { arg0 = 1; }
           ~~~~
HINT: maps are @name, variables $name`,
  'kprobe:f',
  `
stdin:1:8: ERROR: syntax error, unexpected end of file, expecting {
kprobe:f
       ~
HINT: a probe needs a body: kprobe:handle { @ = count(); }`,
  '',
  `
stdin:1:1: ERROR: syntax error, unexpected end of file, expecting a probe

~
HINT: such as: kprobe:server.js:handle { @ = count(); }`,
  'kprobe:f / 1 { }',
  `
stdin:1:14: ERROR: syntax error, unexpected {, expecting / and {
kprobe:f / 1 { }
             ~`,
  'config = { max_strln = 10 } kprobe:f { }',
  `
stdin:1:12: ERROR: Unrecognized config variable: max_strln
config = { max_strln = 10 } kprobe:f { }
           ~~~~~~~~~
HINT: did you mean max_strlen?`,
  'config = { max_strlen = 1 } kprobe:f { }',
  `
stdin:1:25: ERROR: Invalid value for max_strlen: needs a number from 8 to 4096
config = { max_strlen = 1 } kprobe:f { }
                        ~`,
  'kprobe:f { @x = arg0; @x += 1; }',
  `
stdin:1:23: ERROR: The += operator can not be used on expressions of type 'value'
kprobe:f { @x = arg0; @x += 1; }
                      ~~
HINT: keep a number: (int64)value`,
  'kprobe:f { (string)5; }',
  `
stdin:1:12: ERROR: Cannot cast from 'int64' to 'string'
kprobe:f { (string)5; }
           ~~~~~~~~~`,
  'kprobe:f { @a = bleh; @b = args.nmae;\n  printf("%d", "x"); }\nfoo:bar { }',
  `
stdin:1:17: ERROR: Unknown identifier: 'bleh'
kprobe:f { @a = bleh; @b = args.nmae;
                ~~~~
stdin:1:33: ERROR: f does not have a parameter named 'nmae'
kprobe:f { @a = bleh; @b = args.nmae;
                                ~~~~
HINT: did you mean args.name?
stdin:2:16: ERROR: printf: %d specifier expects a value of type int (string supplied)
  printf("%d", "x"); }
               ~~~
stdin:3:1: ERROR: Invalid probe type: foo
foo:bar { }
~~~
HINT: probe types are kprobe kretprobe throw settle BEGIN begin END end interval profile tracepoint rawtracepoint`,
  'kprobe:f { $x = 1; $x = "a"; }',
  `
stdin:1:20: ERROR: Type mismatch for $x: trying to assign value of type 'string' when variable already contains a value of type 'int64'
kprobe:f { $x = 1; $x = "a"; }
                   ~~`,
  'kprobe:f { let $x = 1; let $x = 2; }',
  `
stdin:1:28: ERROR: Variable $x was already declared. Variable shadowing is not allowed.
kprobe:f { let $x = 1; let $x = 2; }
                           ~~`,
  'kprobe:f { strftime(5, nsecs); }',
  `
stdin:1:21: ERROR: strftime() expects a string literal as its first argument
kprobe:f { strftime(5, nsecs); }
                    ~`,
  'kprobe:f { nsecs(tai); }',
  `
stdin:1:18: ERROR: The tai clock is not known here
kprobe:f { nsecs(tai); }
                 ~~~
HINT: strftime() turns nsecs into wall time`,
  'kprobe:f { @x = stats(arg0); if (@x > 1) { } }',
  `
stdin:1:37: ERROR: Type mismatch for '>': comparing 'stats_t' with 'int64'
kprobe:f { @x = stats(arg0); if (@x > 1) { } }
                                    ~`,
  'kprobe:f { print(kstack(500)); }',
  `
stdin:1:18: ERROR: kstack() expects a number of frames from 1 to 127
kprobe:f { print(kstack(500)); }
                 ~~~~~~~~~~~
HINT: such as kstack(5)`,
  'kprobe:f { exit("a"); }',
  `
stdin:1:17: ERROR: exit() needs an integer argument ('string' provided)
kprobe:f { exit("a"); }
                ~~~`,
  'kprobe:f { has_key(@x, "a"); @x[1] = 1; }',
  `
stdin:1:30: ERROR: Argument mismatch for @x: trying to access with arguments: 'int64' when map expects arguments: 'string'
kprobe:f { has_key(@x, "a"); @x[1] = 1; }
                             ~~~~~`,
  'kprobe:f { print("a"); print(\'ab\'); }',
  `
stdin:1:30: ERROR: a character is one byte between quotes
kprobe:f { print("a"); print('ab'); }
                             ~~~~
HINT: strings have double quotes: "text"`,
  'kprobe:f { print(1.5); }',
  `
stdin:1:18: ERROR: Numbers with a decimal point are not supported
kprobe:f { print(1.5); }
                 ~~~
HINT: take a smaller unit: 1500us instead of 1.5ms`,
  'kprobe:f { @x = lhist(1, 0, 10, 1); @x = lhist(1, 0, 10, 2); }',
  `
stdin:1:37: ERROR: lhist() of @x has other arguments here: the buckets of a map are the same everywhere
kprobe:f { @x = lhist(1, 0, 10, 1); @x = lhist(1, 0, 10, 2); }
                                    ~~`,
  'kprobe:f { print(sarg0); }',
  `
stdin:1:18: ERROR: The sarg0 builtin has no meaning here
kprobe:f { print(sarg0); }
                 ~~~~~
HINT: arguments are no stack words: arg0, arg1, … are all of them`,
  '#define N 5\nkprobe:f { }',
  `
stdin:1:1: ERROR: there is no preprocessor here
#define N 5
~~~~~~~
HINT: write the value itself, or $1 and give it behind the program`,
  'config { max_strlen = 64 } kprobe:f { }',
  `
stdin:1:1: ERROR: config needs a =
config { max_strlen = 64 } kprobe:f { }
~~~~~~
HINT: config = { max_strlen = 128 }`,
  'let @m = hash(10); kprobe:f { }',
  `
stdin:1:1: ERROR: maps are not declared
let @m = hash(10); kprobe:f { }
~~~
HINT: config = { max_map_keys = 100 } says how many keys each may have`,
  'kprobe:f { for ($i = 0; $i < 3; $i++) { } }',
  `
stdin:1:20: ERROR: syntax error, unexpected =, expecting :
kprobe:f { for ($i = 0; $i < 3; $i++) { } }
                   ~
HINT: for ($kv : @map) { … } or for ($i : 0..10) { … }`,
  'kprobe:f {',
  `
stdin:1:10: ERROR: syntax error, unexpected end of file, expecting }
kprobe:f {
         ~`,
  'kprobe:f { strcontains(arg0, str(arg1)); }',
  `
stdin:1:30: ERROR: strcontains() expects a string literal as its second argument
kprobe:f { strcontains(arg0, str(arg1)); }
                             ~~~~~~~~~`,
];

const pairs = CASES.flatMap((source, i) => (i % 2 === 0 ? [[source, CASES[i + 1]!.slice(1)] as const] : []));

test.each(pairs)('%j', (source, expected) => {
  expect(diagnose(source)).toBe(expected);
});

test('all errors are reported, in source order, each once', () => {
  const source = 'kprobe:f { @a = one; }\nkprobe:g { @a = two; @b = one; unroll(2) { three } }';
  expect(() =>
    compileScript(source, { file: 'x', resolver: { resolve: () => [{ name: 'f', params: [] }] } }),
  ).toThrow(
    expect.objectContaining({
      name: 'ScriptError',
      code: 'SCRIPT_ERROR',
      position: expect.objectContaining({ line: 1, column: 17, length: 3 }),
      errors: [
        expect.objectContaining({ message: "Unknown identifier: 'one'" }),
        expect.objectContaining({ message: "Unknown identifier: 'two'" }),
        expect.objectContaining({ message: "Unknown identifier: 'one'" }),
        expect.objectContaining({ message: "Unknown identifier: 'three'" }),
      ],
    }),
  );
});

test('warnings do not stop a script', () => {
  const { warnings } = compileScript('config = { stack_mode = perf } kprobe:f { arg0 + 1; }', {
    file: 'x',
    resolver: { resolve: () => [{ name: 'f', params: [] }] },
  });
  expect(warnings.map(({ message, position }) => [message, position.column])).toEqual([
    ['config stack_mode has no effect here', 12],
    ['Return value discarded.', 43],
  ]);
});
