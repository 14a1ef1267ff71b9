/// Finds the name that somebody probably meant.
package enum NearestName {
    /// - Returns: the candidate with the fewest single-character changes from `name`, without regard to case; `nil` when
    ///   even the best would change more than a third of the word.
    package static func of(_ name: String, among candidates: some Sequence<String>) -> String? {
        let word = Array(name.lowercased())
        let ranked = candidates.map { (name: $0, distance: distance(word, Array($0.lowercased()))) }
        guard let best = ranked.min(by: { ($0.distance, $0.name) < ($1.distance, $1.name) }) else { return nil }
        return best.distance <= max(1, max(word.count, best.name.count) / 3) ? best.name : nil
    }

    /// Levenshtein's distance, with a swap of neighbours counted as one change (the usual slip of fingers).
    private static func distance(_ left: [Character], _ right: [Character]) -> Int {
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for (row, character) in left.enumerated() {
            var current = [row + 1]
            for (column, other) in right.enumerated() {
                var best = min(last[column + 1] + 1, current[column] + 1, last[column] + (character == other ? 0 : 1))
                if row > 0, column > 0, character == right[column - 1], left[row - 1] == other {
                    best = min(best, beforeLast[column - 1] + 1)
                }
                current.append(best)
            }
            (beforeLast, last) = (last, current)
        }
        return last[right.count]
    }
}
