/// When the jobs of a run ended, by the clock of the server: an entry's entryCSN is the time of its last write, which is the finish.
/// So nothing has to watch while a run is under way.
struct FinishTimes: Hashable, Sendable {
    /// Seconds since 1970, growing.
    let times: [Double]
    /// Accounts that did not come to their end.
    let unfinished: Int

    init(times: [Double], unfinished: Int) {
        self.times = times.sorted()
        self.unfinished = unfinished
    }

    /// Jobs a second, from the first end to the last; nil where that says nothing.
    var rate: Double? {
        guard let first = times.first, let last = times.last, last > first else { return nil }
        return Double(times.count - 1) / (last - first)
    }
}
