/** What is read of a tokenizer.json when it is written as GGUF's metadata. */

export interface TokenizerJson {
  model?: {
    type?: string;
    vocab?: Record<string, number>;
    merges?: (string | [string, string])[];
    ignore_merges?: boolean;
    byte_fallback?: boolean;
    unk_token?: string | null;
  };
  pre_tokenizer?: PreTokenizer | null;
  normalizer?: Normalizer | null;
  post_processor?: Template | { type: 'Sequence'; processors: Template[] } | null;
  added_tokens?: AddedToken[];
}

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  single_word?: boolean;
}

interface Normalizer {
  type?: string;
  normalizers?: Normalizer[];
  prepend?: string;
  pattern?: { String?: string };
  content?: string;
}

interface PreTokenizer {
  type?: string;
  pretokenizers?: PreTokenizer[];
  pattern?: { Regex?: string; String?: string };
  individual_digits?: boolean;
  use_regex?: boolean;
  add_prefix_space?: boolean;
}

export interface Template {
  type?: string;
  single?: { SpecialToken?: { id: string } }[];
}
