/// Samples in their order, and what can be said of them.
struct Distribution: Hashable, Sendable {
    /// Growing.
    let samples: [Double]

    init(_ samples: [Double]) { self.samples = samples.sorted() }

    /// The smallest sample that is not exceeded by this part of them (nearest rank); nil without samples.
    /// - Parameter part: 0 to 1; 0.5 is the median.
    func percentile(_ part: Double) -> Double? {
        guard !samples.isEmpty else { return nil }
        let rank = (part * Double(samples.count)).rounded(.up)
        return samples[min(samples.count - 1, max(0, Int(rank) - 1))]
    }

    /// The middle one.
    var median: Double? { percentile(0.5) }
}
