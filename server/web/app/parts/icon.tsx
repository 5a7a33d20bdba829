/** A drawing of `icons/`, as text of its file: ours alone, so it can be put into the page as it is. It says nothing to a reader. */
export function Icon({ drawing }: { drawing: string }) {
  return <span class="icon" aria-hidden="true" dangerouslySetInnerHTML={{ __html: drawing }} />;
}
