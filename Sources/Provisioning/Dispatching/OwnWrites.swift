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
