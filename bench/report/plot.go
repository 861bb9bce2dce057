package main

import (
	"image/color"
	"math"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// chart is a plot and the name of its file.
type chart struct {
	file string
	plot *plot.Plot
}

func (c chart) save() error { return c.plot.Save(8*vg.Inch, 4.5*vg.Inch, plots+c.file) }

// colours are distinct for colour-blind readers (Okabe and Ito). The first is ephemera's.
var colours = []color.Color{
	color.RGBA{0xd5, 0x5e, 0x00, 0xff},
	color.RGBA{0x00, 0x72, 0xb2, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	color.RGBA{0x99, 0x99, 0x99, 0xff},
	color.RGBA{0, 0, 0, 0xff},
}

var shapes = []draw.GlyphDrawer{
	draw.CircleGlyph{},
	draw.SquareGlyph{},
	draw.TriangleGlyph{},
	draw.PyramidGlyph{},
	draw.RingGlyph{},
	draw.CrossGlyph{},
	draw.PlusGlyph{},
}

// frame returns an empty plot.
func frame(title, x, y string) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.X.Label.Text, p.Y.Label.Text = title, x, y
	p.Title.TextStyle.Font.Size, p.Title.Padding = 14, 8
	p.X.Label.TextStyle.Font.Size, p.Y.Label.TextStyle.Font.Size = 12, 12
	p.X.Tick.Label.Font.Size, p.Y.Tick.Label.Font.Size = 11, 11
	p.Legend.TextStyle.Font.Size, p.Legend.Left, p.Legend.Padding = 11, true, 3
	p.BackgroundColor = color.White
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, color.Gray{0xe0}
	p.Add(grid)
	return p
}

// lines draws a line for each contender, except those aside, through the medians of the rows, on a logarithmic scale.
// It returns no chart if there are no figures.
func lines(file, title, x, y string, f figures, columns []column, rows []row) ([]chart, error) {
	p := frame(title, x, y)
	p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plot.LogTicks{Prec: -1}
	var ticks []plot.Tick
	for i, r := range rows {
		ticks = append(ticks, plot.Tick{Value: float64(i), Label: r.label})
	}
	p.X.Tick.Marker = plot.ConstantTicks(ticks)
	left := [2]float64{math.Inf(1), math.Inf(-1)} // the lowest and highest figure where the legend will be
	contenders := 0
	for i, c := range columns {
		var points plotter.XYs
		for j, r := range rows {
			if v := f.median(of(c.name, r.name), r.unit); v > 0 {
				points = append(points, plotter.XY{X: float64(j), Y: v})
				if j < 2 && !c.aside {
					left = [2]float64{min(left[0], v), max(left[1], v)}
				}
			}
		}
		if len(points) == 0 || c.aside {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = colours[i], 1.5
		if i == 0 {
			line.Width = 3
		}
		marks.Color, marks.Shape, marks.Radius = colours[i], shapes[i], 3.5
		p.Add(line, marks)
		p.Legend.Add(c.title, line, marks)
		contenders++
	}
	if contenders == 0 {
		return nil, nil // a logarithmic scale needs at least one figure
	}
	p.Y.Min, p.Y.Max = math.Pow(10, math.Floor(math.Log10(p.Y.Min))), math.Pow(10, math.Ceil(math.Log10(p.Y.Max)))
	makeRoom(p, contenders, left)
	p.X.Max += 0.2 // for the last label
	return []chart{{file, p}}, nil
}

// makeRoom puts the legend at the left, above or below the figures there, whichever has more room, and extends the
// scale if the legend does not fit. left are the lowest and the highest of these figures.
func makeRoom(p *plot.Plot, lines int, left [2]float64) {
	decades := func(from, to float64) float64 { return math.Log10(to / from) }
	const perLine = 0.055 // of the height
	below, above := decades(p.Y.Min, left[0]), decades(left[1], p.Y.Max)
	p.Legend.Top = above > below
	share := perLine * float64(lines)
	missing := (share*decades(p.Y.Min, p.Y.Max) - max(above, below)) / (1 - share)
	switch more := math.Pow(10, max(0, missing)); {
	case math.IsInf(left[0], 0): // no figures at the left
	case p.Legend.Top:
		p.Y.Max *= more
	default:
		p.Y.Min /= more
	}
}

// groups draws a group of bars for each contender, one bar a row. It leaves out contenders that are aside or were not
// measured.
func groups(file, title, y string, f figures, columns []column, rows []row) ([]chart, error) {
	p := frame(title, "", y)
	values := make([]plotter.Values, len(rows))
	var titles []string
	for _, c := range columns {
		measured := func(r row) bool { return f.median(of(c.name, r.name), r.unit) > 0 }
		if c.aside || !slices.ContainsFunc(rows, measured) {
			continue
		}
		titles = append(titles, c.title)
		for i, r := range rows {
			height := 0.0
			if measured(r) {
				height = f.median(of(c.name, r.name), r.unit)
			}
			values[i] = append(values[i], height)
		}
	}
	if len(titles) == 0 {
		return nil, nil
	}
	for i, r := range rows {
		b, err := plotter.NewBarChart(values[i], vg.Points(24))
		if err != nil {
			return nil, err
		}
		b.Color, b.LineStyle.Width, b.Offset = colours[i], 0, vg.Length(26*i-13*(len(rows)-1))
		p.Add(b)
		p.Legend.Add(r.label, b)
	}
	p.NominalX(titles...)
	p.X.Min, p.X.Max = -0.5, float64(len(titles))-0.5
	p.Legend.Top = true
	return []chart{{file, p}}, nil
}
