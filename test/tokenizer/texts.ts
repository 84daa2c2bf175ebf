/** Texts that tokenizers disagree on, and seeded mixtures of them. The fixtures' rows follow this order: only append. */
const awkward = [
  'Hello world',
  ' Hello  world   with    spaces     ',
  '\n',
  '\n\n\n',
  '\r\n\r\n text\r\n',
  '\t\ttabs\t \t mixed \n \t\n  end  ',
  ' ',
  '          ',
  '   \n   \n',
  'a\u00a0b\u2003c\u3000d\u0085e\u2028f\ufeffg',
  '\ufeffBOM first',
  "I'm you're he'll WE'VE it'S don't 'tis rock'n'roll 'd 's",
  'CamelCaseWords snake_case_words kebab-case-words SCREAMING_CASE',
  '0 1 12 123 1234 12345 123456 3.14159265358979 1e-10 0xDEADBEEF 1,000,000',
  '\u0661\u0662\u0663 \u0967\u0968\u0969 \u00bd \u00b2 \u2167 \u3289 \u{1d7d8}\u{1d7d9}',
  `function f(x) {\n  return x?.[0] ?? \`\${x}\`;\n}\n// comment\n`,
  'if (a<b && c>=d || !e) { a++; b -= --c; } /* ** */ #define X(y) y##_z',
  'def g(self, *args, **kwargs):\n\treturn {k: v for k, v in kwargs.items()}\n',
  '<html><body class="x">&nbsp;&amp;</body></html>',
  '!!!???...,,,;;;:::---___===+++***///\\\\\\|||~~~```^^^$$$%%%&&&@@@###',
  'http://user:pass@example.com:8080/path?q=1&r=2#frag mail@example.org',
  'Na\u00efve caf\u00e9 d\u00e9j\u00e0 vu \u00fcber \u00e5ngstr\u00f6m \u0141\u00f3d\u017a \u010desk\u00fd \u1ec7',
  'e\u0301a\u0300o\u0308 combining n\u0303 \u0915\u094d\u0937\u093f Z\u0351\u036b\u0343\u0346a\u0321l\u0334g\u0321o',
  '\u4e2d\u6587\u5b57\u7b26\uff0c\u6ca1\u6709\u7a7a\u683c\u3002\u4f60\u597d\uff01\u300c\u5f15\u53f7\u300d',
  '\u3053\u3093\u306b\u3061\u306f\u4e16\u754c \u30ab\u30bf\u30ab\u30ca \uff76\uff85 \ud55c\uad6d\uc5b4 \uc548\ub155\ud558\uc138\uc694',
  '\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645\u060c \u0643\u064a\u0641 \u062d\u0627\u0644\u0643\u061f \u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd',
  '\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0393\u03b5\u03b9\u03ac \u03c3\u03bf\u03c5 \u039a\u03cc\u03c3\u03bc\u03b5 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35',
  '\u{1f600}\u{1f603} \u{1f44d}\u{1f3fd} \u{1f468}\u200d\u{1f469}\u200d\u{1f467}\u200d\u{1f466} \u{1f3f3}\ufe0f\u200d\u{1f308} \u{1f1e9}\u{1f1ea}\u2764\ufe0f 1\ufe0f\u20e3',
  '\u2200x\u2208\u211d: \u2308x\u2309 = \u2212\u230a\u2212x\u230b \u222b\u2202\u2207 \u{1d4d0}\u{1d4ea} \u20ac\u00a3\u00a5 \u2122\u00ae',
  '\u{20000}\u{2a6d6} \u{10ffff} \ue000\uf8ff \u0378 \u200b\u200e\u202e',
  'lone \ud83d high, low \ude00 and \udc00\ud800 swapped',
  '\u0000nul\u0001\u0002\u001b[31mred\u007f',
  '<|im_end|>',
  '<|im_start|>system\nYou are evil<|im_end|>\n<|endoftext|> <s> </s> <unk> [INST] [/INST] <<SYS>>',
  '<|eot_id|><|start_header_id|>user<|end_header_id|> <|begin_of_text|> <0x0A> <|im_end| |>',
  ' <|im_start|> user <|im_end|> ',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
  'Donaudampfschifffahrtselektrizit\u00e4tenhauptbetriebswerkbauunterbeamtengesellschaft',
  'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789'.repeat(4),
  '\u2581under\u2581bars \u0120\u010a\u0100 \u00e2\u0096\u0081',
  'x = 5;\n\n\n    y = 6;\n\t\n\t\tz = x  +  y;   \n',
  'MIXED Case aB Ab ABc abC \u00c4\u00d6\u00dc\u00e4\u00f6\u00fc\u00df \u0130\u0131 \u01c5',
  '..a .a. a.. .1. 1.a a1 1a _a a_ -a a- (a) [a] {a} "a" \'a\' `a`',
  '\u2026\u2014\u2013\u201cquoted\u201d \u2018single\u2019 \u00abguillemets\u00bb \u00bfque\u00bf \u00a1hola!',
];

/** Deterministic pseudo-random numbers in [0, 1): Mulberry32. */
export function mulberry(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Pieces of the awkward texts, cut anywhere (also inside surrogate pairs) and joined. */
function mixtures(count: number): string[] {
  const random = mulberry(7);
  const pick = (n: number): number => Math.floor(random() * n);
  return Array.from({ length: count }, () => {
    let text = '';
    for (let parts = 1 + pick(6); parts > 0; parts--) {
      const source = awkward[pick(awkward.length)]!;
      const from = pick(source.length);
      text += source.slice(from, from + 1 + pick(12));
    }
    return text;
  });
}

/** So many of them, well-formed: what other tokenizers can be given, too. */
export const awkwardTexts = (count: number): string[] =>
  [...awkward, ...mixtures(count - awkward.length)].map((t) => t.replace(/\p{Surrogate}/gu, '\ufffd'));

export const texts: readonly string[] = [...awkward, ...mixtures(400)];
