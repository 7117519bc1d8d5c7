"""What every labelled task shares: losses, target scaling, class weights, metrics, prediction rows, conformal sets."""
