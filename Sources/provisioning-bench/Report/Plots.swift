/// The plots of a run, each left out where nothing was measured for it.
struct Plots {
    var measurements: [Measurement]
    /// In milliseconds.
    var latencies: [(name: String, samples: Distribution)]

    /// File names and what goes into them.
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

    /// Which part of the wishes took no longer than that.
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
                title: "Time from the start to all done", xLabel: "accounts in the directory", yLabel: "seconds",
                isXLogarithmic: true, series: series
            ).svg
    }

    /// In the order in which their names first come.
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
