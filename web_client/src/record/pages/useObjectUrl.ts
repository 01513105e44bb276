/** An address for bytes that are shown as a picture, taken back with the view that shows it (W24). */
import { useEffect, useState } from "react";

export function useObjectUrl(blob: Blob): string {
  const [made, setMade] = useState<{ blob: Blob; url: string } | null>(null);
  useEffect(() => {
    const url = URL.createObjectURL(blob);
    setMade({ blob, url });
    return () => URL.revokeObjectURL(url);
  }, [blob]);
  // Never the former picture's address, not even for the one commit before the effect has run.
  return made?.blob === blob ? made.url : "";
}
