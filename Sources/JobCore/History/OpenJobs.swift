/// The jobs that are open, as far as the history needs to know them: so that a history that is begun anew in the middle of their course, or that
/// could not be written for a while, has them whole again.
struct OpenJobs {
    /// One of them.
    struct Place {
        var job: Job
        var status = JobStatus.created
        var attempt: (number: Int, began: WallTime)?
        /// Set once it has ended and that stands in no file yet.
        var end: (outcome: JobOutcome, time: WallTime)?
        /// In which file's which state it stands; see ``generation``.
        var stored = 0
    }

    /// Ends that are remembered while they cannot be written.
    static let mostEnds = 10_000

    private(set) var places: [JobID: Place] = [:]
    private var ended: Set<JobID> = []
    /// Grows whenever it is uncertain what stands in the file.
    private(set) var generation = 1

    subscript(id: JobID) -> Place? { places[id] }

    /// Ends that stand in no file yet.
    var pendingEnds: [JobID] { ended.sorted() }

    /// Takes note of what a change means.
    mutating func note(_ change: JobChange) {
        if case .opened(let job) = change.event {
            places[change.job] = Place(job: job)
            ended.remove(change.job)
            return
        }
        guard let index = places.index(forKey: change.job) else { return }
        switch change.event {
        case .altered(let job): places.values[index].job = job
        case .status(let status): places.values[index].status = status
        case .attemptBegan(let number): places.values[index].attempt = (number, change.time)
        case .attemptEnded, .attemptCutOff: places.values[index].attempt = nil
        case .closed(let outcome):
            if ended.count < Self.mostEnds {
                places.values[index].end = (outcome, change.time)
                ended.insert(change.job)
            } else {
                places[change.job] = nil
            }
        case .opened, .stepEnded, .progress, .reported: break
        }
    }

    /// It stands in the file now, once the transaction is committed.
    mutating func stored(_ id: JobID) { places[id]?.stored = generation }

    /// What was written is safe: those that have ended need no place any more.
    mutating func committed() {
        for id in ended { places[id] = nil }
        ended = []
    }

    /// What was written is not safe, or the file is another one.
    mutating func forgetStored() { generation += 1 }
}
