import Glibc

/// The plots of a run, without those that have no measurements.
struct Plots {
    var measurements: [Measurement]
    /// In milliseconds.
    var latencies: [(name: String, samples: Distribution)]

    /// File names and contents.
    var all: [(name: String, svg: String)] {
        [
            ("throughput.svg", throughput), ("slots.svg", slots), ("latency.svg", latency), ("scale.svg", scale),
        ].compactMap { name, svg in svg.map { (name, $0) } }
    }

    private var rates: [Measurement] { measurements.filter { $0[Figure.rate] != nil } }

    /// The best of each contestant.
    private var throughput: String? {
        var bars: [(name: String, value: Double)] = []
        for measurement in rates where measurement.name != "pending" {
            let rate = measurement[Figure.rate] ?? 0
            if let place = bars.firstIndex(where: { $0.name == measurement.name }) {
                bars[place].value = max(bars[place].value, rate)
            } else {
                bars.append((measurement.name, rate))
            }
        }
        return bars.isEmpty
            ? nil : BarChart(title: "Throughput, the best of each", unit: "jobs a second", bars: bars).svg
    }

    private var slots: String? {
        let series = grouped(rates.filter { $0.number("slots") != nil && $0.name.hasPrefix("ours") }) { measurement in
            [measurement.name, measurement.text("detection")].compactMap(\.self).joined(separator: ", ")
        } point: { measurement in
            (Double(measurement.number("slots") ?? 0), measurement[Figure.rate] ?? 0)
        }
        return series.isEmpty
            ? nil
            : LineChart(
                title: "Throughput by slots", xLabel: "slots", yLabel: "jobs a second", series: series
            ).svg
    }

    /// The percentage of requests by their maximum latency.
    private var latency: String? {
        let series = latencies.filter { !$0.samples.samples.isEmpty }.map { name, distribution in
            LineChart.Series(
                name: name,
                points: stride(from: 0.0, through: 1, by: 0.005).map { part in
                    (distribution.percentile(part) ?? 0, part * 100)
                })
        }
        return series.isEmpty
            ? nil
            : LineChart(
                title: "Latency on an idle system", xLabel: "milliseconds", yLabel: "percent that took no longer",
                isXLogarithmic: true, hasDots: false, series: series
            ).svg
    }

    private var scale: String? {
        let series = grouped(measurements.filter { $0.name == "scale" }) { _ in
            "start to done, 100 pending"
        } point: { measurement in
            (Double(measurement.number("accounts") ?? 0), measurement[Figure.seconds] ?? 0)
        }
        return series.isEmpty
            ? nil
            : LineChart(
                title: "Time from the start to all done", xLabel: "accounts on the LDAP server", yLabel: "seconds",
                isXLogarithmic: true, series: series
            ).svg
    }

    /// In the order of the first occurrence of their names.
    private func grouped(
        _ measurements: [Measurement], by name: (Measurement) -> String, point: (Measurement) -> (Double, Double)
    ) -> [LineChart.Series] {
        var names: [String] = []
        var points: [String: [(x: Double, y: Double)]] = [:]
        for measurement in measurements {
            let name = name(measurement)
            if points[name] == nil { names.append(name) }
            points[name, default: []].append(point(measurement))
        }
        return names.map { LineChart.Series(name: $0, points: (points[$0] ?? []).sorted { $0.x < $1.x }) }
    }
}

/// A linear or logarithmic axis.
struct AxisScale {
    let isLogarithmic: Bool
    let lowest: Double
    let highest: Double

    /// Includes all values: from 0, or between the enclosing powers of ten.
    init(_ values: [Double], isLogarithmic: Bool) {
        self.isLogarithmic = isLogarithmic
        let greatest = values.max() ?? 1
        if isLogarithmic {
            let positive = values.filter { $0 > 0 }
            lowest = pow(10, log10(positive.min() ?? 1).rounded(.down))
            highest = max(lowest * 10, pow(10, log10(positive.max() ?? 10).rounded(.up)))
        } else {
            lowest = 0
            let step = Self.step(greatest)
            highest = max(step, (greatest / step).rounded(.up) * step)
        }
    }

    /// The position of a value, 0 to 1.
    func place(_ value: Double) -> Double {
        guard isLogarithmic else { return (value - lowest) / (highest - lowest) }
        return value <= lowest ? 0 : log10(value / lowest) / log10(highest / lowest)
    }

    /// Round values along the axis.
    var ticks: [Double] {
        var ticks: [Double] = []
        var tick = lowest
        let step = Self.step(highest)
        while tick <= highest * 1.000_1 {
            ticks.append(tick)
            tick = isLogarithmic ? tick * 10 : tick + step
        }
        return ticks
    }

    /// 1, 2 or 5 times a power of ten, so that there are about five ticks.
    private static func step(_ highest: Double) -> Double {
        guard highest > 0 else { return 1 }
        let raw = highest / 5
        let power = pow(10, log10(raw).rounded(.down))
        return power * ([1, 2, 5, 10].first { $0 * power >= raw * 0.999 } ?? 10)
    }
}

/// Lines through points, with axes and a legend.
struct LineChart {
    struct Series {
        let name: String
        let points: [(x: Double, y: Double)]
    }

    var title: String
    var xLabel: String
    var yLabel: String
    var isXLogarithmic = false
    var hasDots = true
    var series: [Series]

    static let colors = ["#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"]
    private static let frame = (left: 80.0, top: 50.0, width: 560.0, height: 330.0)

    var svg: String {
        var sheet = SVG(width: 920, height: 450)
        let frame = Self.frame
        let x = AxisScale(series.flatMap { $0.points.map(\.x) }, isLogarithmic: isXLogarithmic)
        let y = AxisScale(series.flatMap { $0.points.map(\.y) }, isLogarithmic: false)
        let bottom = frame.top + frame.height
        sheet.text(title, frame.left, 28, size: 16)
        for tick in y.ticks {
            let place = bottom - y.place(tick) * frame.height
            sheet.line(frame.left, place, frame.left + frame.width, place, color: "#ddd")
            sheet.text(Decimals.text(tick), frame.left - 8, place + 4, anchor: .end)
        }
        for tick in x.ticks {
            let place = frame.left + x.place(tick) * frame.width
            sheet.line(place, bottom, place, bottom + 5)
            sheet.text(Decimals.text(tick), place, bottom + 20, anchor: .middle)
        }
        sheet.line(frame.left, bottom, frame.left + frame.width, bottom)
        sheet.text(xLabel, frame.left + frame.width / 2, bottom + 42, anchor: .middle)
        sheet.text(yLabel, 12, frame.top - 10)
        for (index, line) in series.enumerated() {
            let color = Self.colors[index % Self.colors.count]
            let points = line.points.map {
                (frame.left + x.place($0.x) * frame.width, bottom - y.place($0.y) * frame.height)
            }
            sheet.path(points, color: color)
            if hasDots { for point in points { sheet.dot(point.0, point.1, color: color) } }
            let height = frame.top + Double(index) * 20
            sheet.line(frame.left + frame.width + 15, height, frame.left + frame.width + 40, height, color: color)
            sheet.text(line.name, frame.left + frame.width + 46, height + 4)
        }
        return sheet.text
    }
}

/// Horizontal bars with names and values.
struct BarChart {
    var title: String
    var unit: String
    var bars: [(name: String, value: Double)]

    var svg: String {
        let (left, width, step) = (330.0, 480.0, 24.0)
        var sheet = SVG(width: 920, height: Int(70 + step * Double(bars.count)))
        sheet.text("\(title) (\(unit))", 12, 28, size: 16)
        let scale = AxisScale(bars.map(\.value), isLogarithmic: false)
        for (index, bar) in bars.enumerated() {
            let top = 48 + Double(index) * step
            sheet.text(bar.name, left - 8, top + 14, anchor: .end)
            sheet.bar(
                left, top, scale.place(bar.value) * width, step - 6,
                color: LineChart.colors[bar.name.hasPrefix("ours") ? 0 : bar.name.hasPrefix("limit") ? 1 : 7])
            sheet.text(Decimals.text(bar.value), left + scale.place(bar.value) * width + 6, top + 14)
        }
        return sheet.text
    }
}

/// Draws SVG. Coordinates are pixels from the upper left corner.
struct SVG {
    let width: Int
    let height: Int
    private var elements: [String] = []

    init(width: Int, height: Int) {
        self.width = width
        self.height = height
    }

    enum Anchor: String { case start, middle, end }

    mutating func line(_ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, color: String = "#999") {
        elements.append(
            "<line x1=\"\(Self.n(x1))\" y1=\"\(Self.n(y1))\" x2=\"\(Self.n(x2))\" y2=\"\(Self.n(y2))\" stroke=\"\(color)\"/>"
        )
    }

    mutating func path(_ points: [(Double, Double)], color: String) {
        let text = points.map { "\(Self.n($0.0)),\(Self.n($0.1))" }.joined(separator: " ")
        elements.append("<polyline points=\"\(text)\" fill=\"none\" stroke=\"\(color)\" stroke-width=\"2\"/>")
    }

    mutating func dot(_ x: Double, _ y: Double, color: String) {
        elements.append("<circle cx=\"\(Self.n(x))\" cy=\"\(Self.n(y))\" r=\"3\" fill=\"\(color)\"/>")
    }

    mutating func bar(_ x: Double, _ y: Double, _ width: Double, _ height: Double, color: String) {
        elements.append(
            "<rect x=\"\(Self.n(x))\" y=\"\(Self.n(y))\" width=\"\(Self.n(width))\" height=\"\(Self.n(height))\" fill=\"\(color)\"/>"
        )
    }

    mutating func text(_ text: String, _ x: Double, _ y: Double, anchor: Anchor = .start, size: Int = 12) {
        elements.append(
            "<text x=\"\(Self.n(x))\" y=\"\(Self.n(y))\" text-anchor=\"\(anchor.rawValue)\" font-size=\"\(size)\">\(Self.escape(text))</text>"
        )
    }

    /// The whole file.
    var text: String {
        """
        <svg xmlns="http://www.w3.org/2000/svg" width="\(width)" height="\(height)" viewBox="0 0 \(width) \(height)" \
        font-family="sans-serif">
        <rect width="\(width)" height="\(height)" fill="white"/>
        \(elements.joined(separator: "\n"))
        </svg>

        """
    }

    private static func n(_ number: Double) -> String { Decimals.fixed(number, 1) }

    private static func escape(_ text: String) -> String {
        text.reduce(into: "") { text, character in
            switch character {
            case "&": text += "&amp;"
            case "<": text += "&lt;"
            case ">": text += "&gt;"
            default: text.append(character)
            }
        }
    }
}
