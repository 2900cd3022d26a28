package admin

// The plots are SVG without text that a screen reader would read twice: each comes with a table of the
// same numbers.

// plot is a bar chart.
type plot struct {
	Title         string
	Width, Height float64
	Bars          []bar
	Lines         []gridLine
	Labels        []label
	Rows          []plotRow // the table
	Columns       []string
}

// bar is a rectangle. Class is that of the stylesheet.
type bar struct {
	X, Y, Width, Height float64
	Class               string
}

type gridLine struct{ Y float64 }

type label struct {
	X, Y   float64
	Text   string
	Anchor string
}

type plotRow struct {
	Name   string
	Values []string
}

const (
	plotWidth  = 720
	plotHeight = 220
	plotLeft   = 64 // for the numbers of the axis
	plotBottom = 24 // for the names of the bars
	plotTop    = 12
	barGap     = 0.22

	rowHeight = 46
)

// plotParts draws the SMS and confirmations of each part of a period. Of every such number of parts, one has
// a label.
func plotParts(s *summary, every int) *plot {
	p := &plot{Title: "SMS and confirmations", Width: plotWidth, Height: plotHeight, Columns: []string{"accepted", "confirmed", "failed"}}
	top := int64(0)
	for i := range s.Parts {
		top = max(top, s.Parts[i].Sent)
	}
	scale := axis(p, top)
	step := (plotWidth - plotLeft) / float64(len(s.Parts))
	width := step * (1 - barGap)
	base := float64(plotHeight - plotBottom)
	for i := range s.Parts {
		part := &s.Parts[i]
		x := plotLeft + float64(i)*step + step*barGap/2
		stack := func(y float64, n int64, class string) float64 {
			if height := float64(n) * scale; height > 0 {
				p.Bars = append(p.Bars, bar{x, y - height, width, height, class})
				return y - height
			}
			return y
		}
		y := stack(base, part.Accepted+part.Unknown, "sent")
		stack(y, part.Failed+part.Rejected, "failed")
		stack(base, min(part.Confirmed, part.Accepted+part.Unknown), "confirmed")
		if i%every == 0 {
			p.Labels = append(p.Labels, label{x + width/2, plotHeight - 6, s.label(i), "middle"})
		}
		if part.Sent+part.Confirmed > 0 {
			p.Rows = append(p.Rows, plotRow{s.label(i), []string{count(part.Accepted + part.Unknown), count(part.Confirmed), count(part.Failed + part.Rejected)}})
		}
	}
	return p
}

// axis draws lines at round numbers, and returns how high one SMS is.
func axis(p *plot, top int64) float64 {
	step := roundStep(max(top, 1))
	most := (max(top, 1) + step - 1) / step * step
	scale := (plotHeight - plotBottom - plotTop) / float64(most)
	for n := int64(0); n <= most; n += step {
		y := plotHeight - plotBottom - float64(n)*scale
		p.Lines = append(p.Lines, gridLine{y})
		p.Labels = append(p.Labels, label{plotLeft - 6, y + 4, count(n), "end"})
	}
	return scale
}

// roundStep returns 1, 2 or 5 times a power of ten, of which at most five are needed to reach top.
func roundStep(top int64) int64 {
	const steps, ten = 5, 10
	for power := int64(1); ; power *= ten {
		for _, digit := range []int64{1, 2, 5} {
			if digit*power*steps >= top {
				return digit * power
			}
		}
	}
}

// plotTimes draws how many confirmations took how long.
func plotTimes(s *summary) *plot {
	rows := make([]named, 0, len(s.Times))
	for _, t := range s.Times {
		rows = append(rows, named{boundWords(t.Name), t.Count})
	}
	return plotRows("Time from SMS to confirmation", "confirmations", rows, "confirmed")
}

// plotReasons draws why requests were refused.
func plotReasons(s *summary) *plot {
	rows := make([]named, 0, len(s.Reasons))
	for _, r := range s.Reasons {
		rows = append(rows, named{r.Name, r.Count})
	}
	const most = 12
	return plotRows("Refusals by reason", "requests", rows[:min(most, len(rows))], "failed")
}

// plotRows draws a horizontal bar for each row, below its name.
func plotRows(title, unit string, rows []named, class string) *plot {
	p := &plot{Title: title, Width: plotWidth, Height: float64(len(rows)*rowHeight + 4), Columns: []string{unit}}
	top := int64(1)
	for _, r := range rows {
		top = max(top, r.Count)
	}
	for i, r := range rows {
		y := float64(i * rowHeight)
		p.Bars = append(p.Bars, bar{0, y + 28, float64(r.Count) / float64(top) * plotWidth, 12, class})
		p.Labels = append(p.Labels, label{0, y + 20, r.Name + ": " + count(r.Count), "start"})
		p.Rows = append(p.Rows, plotRow{r.Name, []string{count(r.Count)}})
	}
	return p
}
