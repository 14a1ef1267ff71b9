/// How many accounts that are due the engine holds in memory.
public struct QueueBounds: Sendable {
    /// From so many on no further hint is taken, and the watcher reads no more until there is room. Each takes some 200 bytes. A server whose
    /// search is held up has costs of its own (the changes that it is to tell, old pages of its database), so that is for the utmost case.
    public var due: Int
    /// So many of them wait among the jobs of all kinds, which takes more. There can be no more jobs of other kinds at once, each of which
    /// may keep one of them from its account: so one is always left that waits for nothing but a slot.
    public var asked: Int

    /// Bounds; the defaults are far from what is usual, and keep within some 100 MB what is not.
    public init(due: Int = 500_000, asked: Int = 4_000) {
        self.due = due
        self.asked = asked
    }
}
