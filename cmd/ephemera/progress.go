package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// A progress shows how many connections are open: as a bar on a terminal, otherwise as a line for each tenth.
type progress struct {
	w      io.Writer
	total  int
	tenths int // shown so far
	bar    *progressbar.ProgressBar
}

func newProgress(w io.Writer, total int) *progress {
	p := &progress{w: w, total: total}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.bar = progressbar.NewOptions(total,
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetDescription("connections"),
			progressbar.OptionSetWidth(24),
			progressbar.OptionShowCount(),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString("conn"),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish(),
			progressbar.OptionSetRenderBlankState(true),
		)
	}
	return p
}

// set shows that this many connections are open.
func (p *progress) set(open int) {
	if p.bar != nil {
		_ = p.bar.Set(open)
		return
	}
	if tenths := int(int64(open) * 10 / int64(p.total)); tenths > p.tenths {
		p.tenths = tenths
		fmt.Fprintf(p.w, "%s connections open (%d %%)\n", comma(open), tenths*10)
	}
}

// end removes the bar.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
