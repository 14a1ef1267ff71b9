/// Why something could not be measured: one line for people.
struct BenchFailure: Error, Hashable, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
