/** A Markdown tree as elements. */
import type { ComponentChild } from 'preact';
import { useMemo } from 'preact/hooks';
import { CopyButton } from '../ui/CopyButton.js';
import { type Block, type Inline, parseMarkdown } from './markdown.js';

export function Markdown({ text }: { text: string }) {
  const blocks = useMemo(() => parseMarkdown(text), [text]);
  return <div class="markdown">{blocks.map(block)}</div>;
}

const inlines = (list: Inline[]): ComponentChild[] => list.map(inline);

function inline(node: Inline, key: number): ComponentChild {
  switch (node.type) {
    case 'text':
      return node.text;
    case 'code':
      return <code key={key}>{node.text}</code>;
    case 'strong':
      return <strong key={key}>{inlines(node.children)}</strong>;
    case 'em':
      return <em key={key}>{inlines(node.children)}</em>;
    case 'del':
      return <del key={key}>{inlines(node.children)}</del>;
    case 'link':
      return (
        <a key={key} href={node.href} target="_blank" rel="noopener noreferrer nofollow">
          {inlines(node.children)}
        </a>
      );
    case 'break':
      return <br key={key} />;
  }
}

function block(node: Block, key: number): ComponentChild {
  switch (node.type) {
    case 'paragraph':
      return <p key={key}>{inlines(node.children)}</p>;
    case 'heading': {
      // the page has its own h1 and h2
      const Tag = `h${Math.min(6, node.level + 2)}` as 'h3';
      return <Tag key={key}>{inlines(node.children)}</Tag>;
    }
    case 'code':
      return <CodeBlock key={key} language={node.language} text={node.text} />;
    case 'quote':
      return <blockquote key={key}>{node.children.map(block)}</blockquote>;
    case 'list': {
      const items = node.items.map((item, i) => <li key={`i${i}`}>{tight(item)}</li>);
      return node.ordered ? (
        <ol key={key} start={node.start}>
          {items}
        </ol>
      ) : (
        <ul key={key}>{items}</ul>
      );
    }
    case 'table':
      return (
        <div class="table" key={key}>
          <table>
            <thead>
              <tr>
                {node.head.map((c, i) => (
                  <th key={`h${i}`}>{inlines(c)}</th>
                ))}
              </tr>
            </thead>
            <tbody>
              {node.rows.map((r, i) => (
                <tr key={`r${i}`}>
                  {r.map((c, j) => (
                    <td key={`c${j}`}>{inlines(c)}</td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      );
    case 'rule':
      return <hr key={key} />;
  }
}

/** A list item that is one paragraph needs no paragraph. */
const tight = (item: Block[]): ComponentChild[] =>
  item[0]?.type === 'paragraph' ? [...inlines(item[0].children), ...item.slice(1).map(block)] : item.map(block);

function CodeBlock({ language, text }: { language: string; text: string }) {
  return (
    <figure class="code">
      <figcaption>
        <span>{language || 'text'}</span>
        <CopyButton text={text} />
      </figcaption>
      <pre>
        <code>{text}</code>
      </pre>
    </figure>
  );
}
