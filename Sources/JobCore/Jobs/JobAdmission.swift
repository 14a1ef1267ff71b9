import Synchronization

/// Says which jobs may begin, over schedulers of every kind: one job at a time for each subject, so many of each scheduler, so many in all.
///
/// Each scheduler has a ``Lane`` and asks there when a job is due. Of all that wait the one with the smallest priority number begins first, then
/// whoever asked first; each end calls exactly those who begin by it. Jobs that wait for the same subject begin by their rank.
public final class JobAdmission: Sendable {
    fileprivate typealias Queue = AdmissionQueue<@Sendable () -> Void>

    /// The place of a job that waits.
    public struct Ticket: Sendable {
        fileprivate let place: Queue.Ticket
    }

    private let queue: Mutex<Queue>
    /// By lane, what interrupts its job on a subject.
    private let interruptions = Mutex<[Int: @Sendable (JobSubject) -> Void]>([:])

    /// - Parameter limit: jobs of all types at once; nil: no limit.
    public init(limit: Int? = nil) { queue = Mutex(Queue(limit: limit)) }

    /// Another limit, at once. Jobs that run go on.
    public func setLimit(_ limit: Int?) { beginning { $0.setLimit(limit) } }

    /// The way in for another scheduler.
    /// - Parameter slots: the most of its jobs at once; less than 1 counts as 1.
    public func lane(slots: Int) -> Lane {
        Lane(admission: self, number: queue.withLock { $0.makeLane(slots: slots) })
    }

    private func beginning(_ change: (inout Queue) -> [@Sendable () -> Void]) {
        for begin in queue.withLock({ change(&$0) }) { begin() }
    }

    /// One scheduler's way in.
    public struct Lane: Sendable {
        fileprivate let admission: JobAdmission
        fileprivate let number: Int

        /// Another number of slots, at once. Jobs that run go on.
        public func setSlots(_ slots: Int) { admission.beginning { $0.setSlots(slots, of: number) } }

        /// A job is due. Once it may begin it counts as running, and must ``leave(_:)``, whether it does begin or not.
        /// - Parameters:
        ///   - priority: 1 is more urgent than 10.
        ///   - rank: of jobs that wait for the same subject the smallest begins first, whatever their priorities.
        ///   - begin: called once, when it may begin after it has waited.
        /// - Returns: nil when it may begin now; then nothing is called.
        public func ask(
            _ subject: JobSubject, priority: Int, rank: Int = 0, orCall begin: @escaping @Sendable () -> Void
        ) -> Ticket? {
            admission.queue.withLock { $0.ask(subject, in: number, priority: priority, rank: rank, begin) }
                .map(Ticket.init)
        }

        /// A job that waits becomes as urgent as that.
        public func hasten(_ ticket: Ticket, to priority: Int) {
            admission.queue.withLock { $0.hasten(ticket.place, to: priority) }
        }

        /// What interrupts this scheduler's job on a subject, so that work that goes before it can begin. It must not block.
        public func whenInterrupted(_ interrupt: @escaping @Sendable (JobSubject) -> Void) {
            admission.interruptions.withLock { $0[number] = interrupt }
        }

        /// Has another scheduler's job on a subject interrupted, where there is one and its scheduler can do that.
        public func interrupt(_ subject: JobSubject) {
            let lane = admission.queue.withLock { $0.lane(workingOn: subject) }
            guard let lane, lane != number else { return }
            admission.interruptions.withLock { $0[lane] }?(subject)
        }

        /// A job waits no longer.
        /// - Returns: false when it may begin already, and is called.
        public func withdraw(_ ticket: Ticket) -> Bool {
            guard let begun = admission.queue.withLock({ $0.withdraw(ticket.place) }) else { return false }
            for begin in begun { begin() }
            return true
        }

        /// The letter of a job that waits; nil when it may begin already.
        public func status(of ticket: Ticket) -> JobStatus? {
            switch admission.queue.withLock({ $0.obstacle(of: ticket.place) }) {
            case .subject: .waitingForClientResource
            case .room: .waitingForMaximumJobs
            case .moreUrgent: .waitingForPriority
            case nil: nil
            }
        }

        /// The job on a subject has ended.
        public func leave(_ subject: JobSubject) { admission.beginning { $0.leave(subject) } }
    }
}
