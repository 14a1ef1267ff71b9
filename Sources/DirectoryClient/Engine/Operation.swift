/// A request on its way with everything that its answer needs.
struct Operation: Sendable {
    /// Where the answer goes.
    enum Reply: Sendable {
        /// All messages together, once.
        case once(CheckedContinuation<Result<Response, DirectoryError>, Never>)
        /// Each message as it comes.
        case stream(SyncStream)
    }

    var id: OperationTable.ID
    var request: Request
    var controls: [Control]
    /// When waiting for the answer ends; nil means never.
    var deadline: ContinuousClock.Instant?
    var reply: Reply

    func fail(_ error: DirectoryError) {
        switch reply {
        case .once(let continuation): continuation.resume(returning: .failure(error))
        case .stream(let stream): stream.finish(error)
        }
    }
}
