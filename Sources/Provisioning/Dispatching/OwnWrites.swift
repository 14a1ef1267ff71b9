import DequeModule
import DirectoryModel

/// The entryCSNs of the daemon's last writes, by which their echoes in the watcher are told from others' changes.
struct OwnWrites: Sendable {
    private var order: Deque<AttributeValue> = []
    private var known: Set<AttributeValue> = []
    private let capacity: Int

    init(capacity: Int = 4_096) { self.capacity = capacity }

    mutating func insert(_ csn: AttributeValue) {
        guard known.insert(csn).inserted else { return }
        order.append(csn)
        if order.count > capacity { known.remove(order.removeFirst()) }
    }

    func contains(_ csn: AttributeValue?) -> Bool { csn.map(known.contains) ?? false }
}

/// What was seen of an account while its job ran, and whether that was anything but the job's own writes.
///
/// A write within a transaction does not tell its entryCSN; its echo is told by how the entry stood. Each write has one echo: another sighting that
/// looks the same is somebody's.
struct Echoes: Sendable {
    private var seen: [Sighting] = []
    private var written: [Sighting.Stand] = []

    mutating func saw(_ sighting: Sighting) { seen.append(sighting) }

    mutating func wrote(_ stand: Sighting.Stand) { written.append(stand) }

    func areAll(knowing own: OwnWrites) -> Bool {
        var written = written
        return seen.allSatisfy { sighting in
            if own.contains(sighting.csn) { return true }
            guard let stand = sighting.stand, let place = written.firstIndex(of: stand) else { return false }
            written.remove(at: place)
            return true
        }
    }
}
